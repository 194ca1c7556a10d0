use std::time::Duration;

use forefend_domain::{Family, MetricKind, MetricName};
use forefend_predict::forecast::Limited;

use super::*;

fn forecasts() -> Forecasts {
    let metric = MetricName::new("disk_used_bytes");
    let past: Vec<(Timestamp, f64)> = (0..600u64)
        .map(|n| (Timestamp::from_unix_ms(1_700_000_000_000 + n * 600_000), 50.0 + 0.05 * n as f64))
        .collect();
    let (family, kind) = (Family::Saturation, MetricKind::Exhaustible);
    let limited = Limited { metric: &metric, family, kind, unit: "bytes", limit: 100.0, past: &past };
    let forecast = LimitForecast::of(&limited, Duration::from_secs(86_400), 1).unwrap().unwrap();
    Forecasts::from([(CellId::new("a-1").unwrap(), vec![forecast])])
}

#[test]
fn what_was_made_is_taken_up_and_what_is_damaged_is_left_out_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(read(folder.path()), Ok(OnDisk::default()), "none is no error");
    write(folder.path(), Timestamp::from_unix_ms(5), forecasts()).unwrap();
    let (made, cells) = (Timestamp::from_unix_ms(5), forecasts());
    assert_eq!(read(folder.path()), Ok(OnDisk { v: VERSION, made, cells }));
    let path = folder.path().join(FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    let older = text.replace("\"kind\":\"exhaustible\",", "");
    assert_ne!(older, text);
    std::fs::write(&path, older).unwrap();
    assert_eq!(read(folder.path()).unwrap().cells, forecasts(), "before there was a kind, all rose");
    for (broken, why) in [
        (text.replace("\"v\":1", "\"v\":7"), "version 7"),
        (text.replace("\"limit\"", "\"Limit\""), "missing field `limit`"),
        (text[..text.len() / 2].to_owned(), "EOF"),
    ] {
        std::fs::write(&path, broken).unwrap();
        let told = read(folder.path()).unwrap_err();
        assert!(told.contains(why) && told.contains(FILE) && told.contains("made anew"), "{told}");
    }
}
