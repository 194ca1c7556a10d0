//! The fields of a protobuf message, one after the other, without building it.
//!
//! A message of two bytes can become a hundred in memory. So large messages are walked here and only their small parts
//! are built, one at a time. Source: <https://protobuf.dev/programming-guides/encoding/>.

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Field<'a> {
    /// Its number.
    pub(crate) number: u64,
    /// Its content, if it is text, bytes or a message.
    pub(crate) bytes: Option<&'a [u8]>,
}

/// Where a message ends being one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAMessage {
    /// The byte of the message, counted from 0.
    pub(crate) offset: usize,
    pub(crate) what: &'static str,
}

/// Walks the fields. After an error there is nothing more.
pub(crate) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { message, offset: 0, broken: false }
}

pub(crate) struct Fields<'a> {
    message: &'a [u8],
    offset: usize,
    broken: bool,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, NotAMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken || self.offset >= self.message.len() {
            return None;
        }
        let field = self.field();
        self.broken = field.is_err();
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<Field<'a>, NotAMessage> {
        let key = self.varint()?;
        let number = key >> 3;
        if number == 0 {
            return Err(self.flaw("a field has the number 0"));
        }
        let bytes = match key & 7 {
            0 => {
                self.varint()?;
                None
            }
            1 => self.take(8).map(|_| None)?,
            2 => {
                let length = self.varint()?;
                let length =
                    usize::try_from(length).map_err(|_| self.flaw("a length passes every memory"))?;
                Some(self.take(length)?)
            }
            5 => self.take(4).map(|_| None)?,
            _ => return Err(self.flaw("a field has a wire type that there is not")),
        };
        Ok(Field { number, bytes })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], NotAMessage> {
        let rest = self.message.get(self.offset..).unwrap_or_default();
        let taken = rest.get(..length).ok_or_else(|| self.flaw("a field is longer than what holds it"))?;
        self.offset += length;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, NotAMessage> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.message.get(self.offset).ok_or_else(|| self.flaw("it ends within a number"))?;
            self.offset += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.flaw("a number has more than ten bytes"))
    }

    fn flaw(&self, what: &'static str) -> NotAMessage {
        NotAMessage { offset: self.offset, what }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_of_every_wire_type_are_walked() {
        let message = [0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x19, 0, 0, 0, 0, 0, 0, 0, 0, 0x25, 1, 2, 3, 4];
        let seen: Vec<_> = fields(&message).map(Result::unwrap).map(|f| (f.number, f.bytes)).collect();
        assert_eq!(seen, [(1, None), (2, Some(&b"hi"[..])), (3, None), (4, None)]);
    }

    #[test]
    fn what_is_cut_off_says_where() {
        let cut = fields(&[0x12, 5, b'h']).next().unwrap().unwrap_err();
        assert_eq!(cut, NotAMessage { offset: 2, what: "a field is longer than what holds it" });
        assert!(
            fields(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]).next().unwrap().is_err()
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let walked: Vec<_> = fields(&bytes).collect();
            prop_assert!(walked.len() <= bytes.len());
            prop_assert!(walked.iter().rev().skip(1).all(Result::is_ok), "nothing after an error");
        }
    }
}
