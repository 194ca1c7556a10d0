use std::{io, net::UdpSocket};

use super::{Level, begin};
use crate::DnsFailure;

/// Header of a message (RFC 1035 §4.1.1): id, flags, and four counts, two bytes each.
const HEADER_BYTES: usize = 12;

pub(super) fn main(how: DnsFailure) -> io::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    begin(&Level::default(), Some(socket.local_addr()?))?;
    let mut buffer = [0; 4096];
    loop {
        let (len, from) = socket.recv_from(&mut buffer)?;
        if let Some(answer) = answer(&buffer[..len], how) {
            // Who asked may be gone.
            let _ = socket.send_to(&answer, from);
        }
    }
}

/// The question, sent back with an error; `None` for what is no question, or when silence is wanted.
fn answer(question: &[u8], how: DnsFailure) -> Option<Vec<u8>> {
    let code = match how {
        DnsFailure::ServerFailure => 2,
        DnsFailure::NoSuchName => 3,
        DnsFailure::Silence => return None,
    };
    if question.len() < HEADER_BYTES || question[2] & 0x80 != 0 || question[4..6] != [0, 1] {
        return None;
    }
    let mut end = HEADER_BYTES;
    // Labels up to the empty one; a question holds no pointers.
    while *question.get(end)? != 0 {
        end += usize::from(question[end]) + 1;
    }
    let mut answer = question.get(..end + 5)?.to_vec();
    // Answer, the asked opcode and recursion kept; recursion available; the code. No records.
    answer[2] = 0x80 | (answer[2] & 0x79);
    answer[3] = 0x80 | code;
    answer[6..12].fill(0);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question for the address of `a.b`, with an additional record that must not come back.
    fn question() -> Vec<u8> {
        let mut q = vec![0xab, 0xcd, 0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1];
        q.extend([1, b'a', 1, b'b', 0, 0, 1, 0, 1]);
        q.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        q
    }

    #[test]
    fn a_question_comes_back_as_an_error() {
        let reply = answer(&question(), DnsFailure::NoSuchName).unwrap();
        assert_eq!(reply[..4], [0xab, 0xcd, 0x81, 0x83]);
        assert_eq!(reply[4..12], [0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(reply.len(), 12 + 9);
        assert_eq!(answer(&question(), DnsFailure::ServerFailure).unwrap()[3], 0x82);
        assert_eq!(answer(&question(), DnsFailure::Silence), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(0u8.., 0..100)) {
            let _ = answer(&bytes, DnsFailure::NoSuchName);
        }
    }
}
