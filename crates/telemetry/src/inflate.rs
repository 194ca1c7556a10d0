//! Decompression that stops at a bound, whatever the compressed bytes promise.

use std::io::{self, Read as _};

use crate::pushed::DecodeError;

/// A block of snappy (<https://github.com/google/snappy/blob/main/format_description.txt>). Its length stands in front
/// and is looked at before any memory is taken for it.
///
/// # Errors
/// When it is longer than `bound` bytes, or broken.
pub fn snappy(compressed: &[u8], bound: usize) -> Result<Vec<u8>, DecodeError> {
    let broken = |error: snap::Error| DecodeError::Broken {
        place: "the body".to_owned(),
        what: format!("it is no block of snappy: {error}"),
    };
    let length = snap::raw::decompress_len(compressed).map_err(broken)?;
    if length > bound {
        return Err(DecodeError::TooMuch { what: "bytes after decompression", bound });
    }
    snap::raw::Decoder::new().decompress_vec(compressed).map_err(broken)
}

/// Gzip (RFC 1952), read no further than the bound.
///
/// # Errors
/// When it is longer than `bound` bytes, or broken.
pub fn gzip(compressed: &[u8], bound: usize) -> Result<Vec<u8>, DecodeError> {
    read(flate2::read::MultiGzDecoder::new(compressed), bound)
}

fn read(from: impl io::Read, bound: usize) -> Result<Vec<u8>, DecodeError> {
    let mut plain = Vec::new();
    let limit = u64::try_from(bound).unwrap_or(u64::MAX).saturating_add(1);
    match from.take(limit).read_to_end(&mut plain) {
        Ok(length) if length > bound => {
            Err(DecodeError::TooMuch { what: "bytes after decompression", bound })
        }
        Ok(_) => Ok(plain),
        Err(error) => {
            Err(DecodeError::Broken { place: "the body".to_owned(), what: format!("it is no gzip: {error}") })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_length_of_four_gibibytes_in_five_bytes_takes_no_memory() {
        let refused = snappy(&[0xff, 0xff, 0xff, 0xff, 0x0f], 1 << 20).unwrap_err();
        assert_eq!(refused, DecodeError::TooMuch { what: "bytes after decompression", bound: 1 << 20 });
        assert!(matches!(snappy(&[], 10), Err(DecodeError::Broken { .. })));
        assert!(matches!(snappy(&[5, 0xff, 1], 10), Err(DecodeError::Broken { .. })));
    }

    #[test]
    fn a_gzip_bomb_is_left_at_the_bound() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..1_000 {
            encoder.write_all(&[0; 65_536]).unwrap();
        }
        let bomb = encoder.finish().unwrap();
        assert!(bomb.len() < 100_000, "{}", bomb.len());
        assert_eq!(
            gzip(&bomb, 1 << 20),
            Err(DecodeError::TooMuch { what: "bytes after decompression", bound: 1 << 20 })
        );
        assert!(gzip(&bomb, 1_000 * 65_536).is_ok(), "the bound itself is allowed");
        let endless = read(io::repeat(0), 1_000);
        assert!(
            matches!(endless, Err(DecodeError::TooMuch { .. })),
            "no more is read than the bound and one byte"
        );
        assert!(matches!(gzip(b"plain", 10), Err(DecodeError::Broken { .. })));
    }
}
