//! A model in a file: a line that says what it is, a header in JSON, the weights as bytes, a hash of all of it.
//!
//! ```text
//! forefend-lstm 1\n | length of the header: u32 | header | weights: f32 … | BLAKE3 of what is before: 32 bytes
//! ```
//! Numbers are little-endian. The header has the sizes, so how many weights there are is known before the first is read.

use forefend_predict::learned::{Calibration, Lstm, LstmLayer, LstmParts};
use serde::{Deserialize, Serialize};
use thiserror::Error;

const MAGIC: &[u8] = b"forefend-lstm ";
const VERSION: &[u8] = b"1\n";
const HASH: usize = 32;
/// More is no header.
const LONGEST_HEADER: usize = 16 << 20;

/// Why a file holds no model.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum FileError {
    /// Something else.
    #[error("this is no file of an LSTM: it does not begin with `forefend-lstm `")]
    NotOurs,
    /// Written by another version.
    #[error(
        "the file is of format {found:?}, this build reads 1: train the model again, or use the build that wrote it"
    )]
    Version {
        /// What the file says, as far as it can be shown.
        found: String,
    },
    /// Cut short, or changed since it was written.
    #[error("the file is damaged: {why}; restore it, or train the model again")]
    Damaged {
        /// Where it shows.
        why: String,
    },
}

fn damaged(why: impl Into<String>) -> FileError {
    FileError::Damaged { why: why.into() }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    edges: Vec<f64>,
    features: Vec<String>,
    /// Cells of each layer.
    hidden: Vec<usize>,
    calibration: Calibration,
}

/// How many numbers each list of a model has, in the order in which they are written.
fn lists(header: &Header) -> Option<Vec<usize>> {
    let mut sees = header.features.len();
    let mut lengths = vec![sees, sees];
    for hidden in &header.hidden {
        let row = hidden.checked_mul(4)?;
        lengths.extend([row.checked_mul(sees)?, row.checked_mul(*hidden)?, row]);
        sees = *hidden;
    }
    lengths.extend([sees.checked_mul(header.edges.len())?, header.edges.len()]);
    Some(lengths)
}

/// The file of a model.
#[must_use]
pub fn to_bytes(model: &Lstm) -> Vec<u8> {
    let LstmParts { edges, features, centre, scale, layers, head, head_bias, calibration } =
        model.parts().clone();
    let hidden = layers.iter().map(|layer| layer.hidden).collect();
    let header = Header { edges, features, hidden, calibration };
    // A header is plain numbers and texts, which JSON can always say.
    let header = serde_json::to_vec(&header).unwrap_or_default();
    let mut bytes = [MAGIC, VERSION, &(header.len() as u32).to_le_bytes(), &header].concat();
    let of_layers = layers.iter().flat_map(|layer| [&layer.input, &layer.recurrent, &layer.bias]);
    for list in [&centre, &scale].into_iter().chain(of_layers).chain([&head, &head_bias]) {
        bytes.extend(list.iter().flat_map(|number| number.to_le_bytes()));
    }
    let hash = blake3::hash(&bytes);
    bytes.extend(hash.as_bytes());
    bytes
}

/// The model in a file.
///
/// # Errors
/// When it is none, of another version, cut short, changed, or holds no sound model. Never panics, and allocates no more than a small multiple of the file.
pub fn from_bytes(bytes: &[u8]) -> Result<Lstm, FileError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(FileError::NotOurs)?;
    let Some(rest) = rest.strip_prefix(VERSION) else {
        let found = rest.iter().take(16).take_while(|byte| **byte != b'\n').copied().collect::<Vec<_>>();
        return Err(FileError::Version { found: String::from_utf8_lossy(&found).into_owned() });
    };
    let (hashed, hash) = bytes.split_last_chunk::<HASH>().ok_or_else(|| damaged("it ends too early"))?;
    if blake3::hash(hashed) != *hash {
        return Err(damaged("its hash is of other bytes"));
    }
    let rest = &rest[..rest.len().saturating_sub(HASH)];
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it has no header"))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > LONGEST_HEADER || length > rest.len() {
        return Err(damaged(format!("its header would be {length} bytes long")));
    }
    let (header, weights) = rest.split_at(length);
    let header: Header = serde_json::from_slice(header).map_err(|e| damaged(format!("its header: {e}")))?;
    let model = model(header, weights)?;
    Ok(model)
}

fn model(header: Header, weights: &[u8]) -> Result<Lstm, FileError> {
    let lengths = lists(&header).ok_or_else(|| damaged("its header speaks of too many weights"))?;
    let wanted = lengths.iter().try_fold(0usize, |sum, length| sum.checked_add(length.checked_mul(4)?));
    if wanted != Some(weights.len()) {
        return Err(damaged(format!("it has {} bytes of weights, not what its header says", weights.len())));
    }
    let mut numbers =
        weights.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    let mut lists = lengths.into_iter().map(|length| numbers.by_ref().take(length).collect::<Vec<f32>>());
    let mut list = || lists.next().unwrap_or_default();
    let (centre, scale) = (list(), list());
    let mut inputs = header.features.len();
    let mut layers = Vec::with_capacity(header.hidden.len());
    for hidden in header.hidden {
        layers.push(LstmLayer { inputs, hidden, input: list(), recurrent: list(), bias: list() });
        inputs = hidden;
    }
    let (edges, features, calibration) = (header.edges, header.features, header.calibration);
    let parts =
        LstmParts { edges, features, centre, scale, layers, head: list(), head_bias: list(), calibration };
    Lstm::new(parts).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some() -> Lstm {
        let numbers = |count: usize| (0..count).map(|n| (n as f32 * 0.37).sin()).collect::<Vec<f32>>();
        let layer = |inputs: usize, hidden: usize| LstmLayer {
            inputs,
            hidden,
            input: numbers(inputs * 4 * hidden),
            recurrent: numbers(hidden * 4 * hidden),
            bias: numbers(4 * hidden),
        };
        Lstm::new(LstmParts {
            edges: vec![0.1, 1.0 / 3.0, 7.0],
            features: vec!["a".into(), "b".into()],
            centre: numbers(2),
            scale: vec![1.0, 0.1],
            layers: vec![layer(2, 3), layer(3, 2)],
            head: numbers(6),
            head_bias: numbers(3),
            calibration: Calibration::Identity,
        })
        .unwrap()
    }

    /// With a hash that is right for what was done.
    fn hashed(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = to_bytes(&some());
        bytes.truncate(bytes.len() - HASH);
        change(&mut bytes);
        let hash = blake3::hash(&bytes);
        bytes.extend(hash.as_bytes());
        bytes
    }

    #[test]
    fn a_model_comes_back_from_its_file() {
        let bytes = to_bytes(&some());
        let back = from_bytes(&bytes).unwrap();
        assert_eq!(back, some());
        assert_eq!(to_bytes(&back), bytes);
    }

    #[test]
    fn another_version_and_other_files_are_told_apart() {
        assert_eq!(from_bytes(b"PAR1"), Err(FileError::NotOurs));
        assert_eq!(from_bytes(b""), Err(FileError::NotOurs));
        let newer = from_bytes(b"forefend-lstm 2\nwhatever").unwrap_err();
        assert_eq!(newer, FileError::Version { found: "2".to_owned() });
    }

    #[test]
    fn a_right_hash_does_not_make_a_sound_model() {
        let after_magic = MAGIC.len() + VERSION.len();
        let why = |bytes: Vec<u8>| from_bytes(&bytes).unwrap_err().to_string();
        let long = why(hashed(|bytes| bytes[after_magic..after_magic + 4].fill(0xff)));
        assert!(long.contains("4294967295 bytes long"), "{long}");
        let no_json = why(hashed(|bytes| bytes[after_magic + 4] = b'['));
        assert!(no_json.contains("its header"), "{no_json}");
        let short = why(hashed(|bytes| bytes.truncate(bytes.len() - 4)));
        assert!(short.contains("bytes of weights"), "{short}");
        let infinite = why(hashed(|bytes| {
            let at = bytes.len() - 4;
            bytes[at..].copy_from_slice(&f32::INFINITY.to_le_bytes());
        }));
        assert!(infinite.contains("finite"), "{infinite}");
        let huge = why(hashed(|bytes| {
            let header = br#"{"edges":[1.0],"features":["a"],"hidden":[4611686018427387904],"calibration":"identity"}"#;
            bytes.truncate(after_magic);
            bytes.extend((header.len() as u32).to_le_bytes());
            bytes.extend(header);
        }));
        assert!(huge.contains("too many weights") || huge.contains("its header"), "{huge}");
    }

    proptest! {
        #[test]
        fn every_flip_and_every_cut_is_noticed(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
            let mut bytes = to_bytes(&some());
            let cut = cut.index(bytes.len());
            prop_assert!(from_bytes(&bytes[..cut]).is_err());
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(from_bytes(&bytes).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut behind = [MAGIC, VERSION].concat();
            behind.extend(&bytes);
            prop_assert!(from_bytes(&bytes).is_err() && from_bytes(&behind).is_err());
        }
    }
}
