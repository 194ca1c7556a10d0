//! Model files of any bytes, with a hash that is right: refused or read, never a panic; what is read can be served and written again.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    assert!(forefend_learn::lstm::from_bytes(bytes).is_err() || bytes.len() > 32);
    let mut file = b"forefend-lstm 1\n".to_vec();
    file.extend(bytes);
    let hash = blake3::hash(&file);
    file.extend(hash.as_bytes());
    if let Ok(model) = forefend_learn::lstm::from_bytes(&file) {
        let (_, hazards) = model.step(model.fresh(), &[1.0]);
        assert_eq!(hazards.len(), model.edges().len());
        assert_eq!(forefend_learn::lstm::from_bytes(&forefend_learn::lstm::to_bytes(&model)), Ok(model));
    }
});
