//! Follows a file that grows, across rotation: by looking, not by being told, so that it works on any file system.
//!
//! At each look the open file and the file that is at the path now are compared by device and inode, and the first bytes
//! of the open file with what they were. So these are told apart: it grew; it was renamed or deleted and another is there now (also
//! behind a symbolic link); it was cut and begins anew, even if it is longer already than it was; an inode that was given
//! to another file. Of a file that was replaced the rest is read first.
//!
//! What happens between two looks can't be seen: of a file that came and went in between nothing is known, and what was
//! written to one after the last look and before it was cut is lost.

use std::{
    fs::{File, Metadata},
    io::ErrorKind,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

/// A log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The system refuses.
    #[error("can't read {}: {source}; see whether the engine may read it", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("{} is no regular file; name the file that the log is written to", path.display())]
    NoFile {
        /// Which path.
        path: PathBuf,
    },
    /// It begins as gzip does.
    #[error("{} is compressed; name the file that the log is written to, not one that was rotated away", path.display())]
    Compressed {
        /// Which file.
        path: PathBuf,
    },
}

/// What a look found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Looked {
    /// Whether the log is there. One that was renamed counts as long as something is written to it.
    pub present: bool,
    /// Bytes that were read.
    pub bytes: u64,
    /// Bytes that were skipped because there were more than may be read.
    pub skipped_bytes: u64,
    /// Whether it began anew: replaced or cut.
    pub restarted: bool,
}

/// So many first bytes tell one file from another: with a time in each line they never agree.
const HEAD: usize = 256;
const CHUNK: usize = 64 * 1_024;
/// A file that was replaced is read for so many looks at most, for its writer may not have noticed yet.
const LOOKS_AT_REPLACED: u32 = 10;

/// Follows one path. Between looks it holds the file open, and the line that is not ended yet.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    bytes_per_look: u64,
    held: Option<Held>,
    /// Whether the path was once seen to be empty: then all of what appears there is new.
    was_missing: bool,
    lines: Lines,
}

#[derive(Debug)]
struct Held {
    file: File,
    id: (u64, u64),
    offset: u64,
    head: Vec<u8>,
    replaced_looks: u32,
}

impl Follower {
    /// Will follow `path`: from its end if it is there at the first look, from its beginning if it appears later. Reads at
    /// most `bytes_per_look` at once (at least 1) and keeps at most `max_line_bytes` of a line.
    #[must_use]
    pub fn new(path: PathBuf, bytes_per_look: u64, max_line_bytes: usize) -> Self {
        let lines = Lines { bound: max_line_bytes, ..Lines::default() };
        Self { path, bytes_per_look: bytes_per_look.max(1), held: None, was_missing: false, lines }
    }

    /// What is followed.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what is new and hands over each line that has ended, without its end, and whether it was cut. Blocks as long as
    /// the file system takes.
    ///
    /// # Errors
    /// [`FollowError`]: nothing can be said of the log now; the next look may find it well.
    pub fn look(&mut self, mut take: impl FnMut(&[u8], bool)) -> Result<Looked, FollowError> {
        let there = self.there()?;
        let mut looked = Looked { present: there.is_some(), ..Looked::default() };
        if self.held.is_none() {
            let Some(there) = &there else {
                self.was_missing = true;
                return Ok(looked);
            };
            self.open(there)?;
        }
        self.read(&mut looked, &mut take)?;
        let Some(held) = &mut self.held else { return Ok(looked) };
        match &there {
            Some(there) if id_of(there) == held.id => held.replaced_looks = 0,
            Some(_) => {
                held.replaced_looks += 1;
                let done = looked.bytes == 0 && held.replaced_looks > 1;
                if done || held.replaced_looks >= LOOKS_AT_REPLACED {
                    self.lines.end(&mut take);
                    (self.held, self.was_missing, looked.restarted) = (None, true, true);
                    if let Some(there) = self.there()? {
                        self.open(&there)?;
                        self.read(&mut looked, &mut take)?;
                    }
                }
            }
            None => {
                looked.present = looked.bytes > 0;
                // One that was deleted must not be kept from giving back its space.
                let links = held.file.metadata().map_or(0, |held| held.nlink());
                if links == 0 && looked.bytes == 0 {
                    self.lines.end(&mut take);
                    (self.held, self.was_missing) = (None, true);
                }
            }
        }
        Ok(looked)
    }

    fn there(&self) -> Result<Option<Metadata>, FollowError> {
        match std::fs::metadata(&self.path) {
            Ok(there) if there.is_file() => Ok(Some(there)),
            Ok(_) => Err(FollowError::NoFile { path: self.path.clone() }),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(source) => Err(self.error(source)),
        }
    }

    fn open(&mut self, there: &Metadata) -> Result<(), FollowError> {
        let file = File::open(&self.path).map_err(|e| self.error(e))?;
        let now = file.metadata().map_err(|e| self.error(e))?;
        let head = head_of(&file).map_err(|e| self.error(e))?;
        if head.starts_with(&[0x1f, 0x8b]) {
            return Err(FollowError::Compressed { path: self.path.clone() });
        }
        // Replaced between the two calls: then it is new.
        let offset = if self.was_missing || id_of(there) != id_of(&now) { 0 } else { now.len() };
        self.lines.skipping =
            offset > 0 && byte_at(&file, offset - 1).map_err(|e| self.error(e))? != Some(b'\n');
        self.held = Some(Held { file, id: id_of(&now), offset, head, replaced_looks: 0 });
        Ok(())
    }

    fn read(&mut self, looked: &mut Looked, take: &mut impl FnMut(&[u8], bool)) -> Result<(), FollowError> {
        let path = &self.path;
        let error = |source| FollowError::Read { path: path.clone(), source };
        let Some(held) = &mut self.held else { return Ok(()) };
        let length = held.file.metadata().map_err(error)?.len();
        let head = head_of(&held.file).map_err(error)?;
        // A length that is remembered somewhere on the way may be too short; what can be read is there.
        let shorter = length < held.offset && byte_at(&held.file, held.offset - 1).map_err(error)?.is_none();
        if shorter || !head.starts_with(&held.head) {
            self.lines.end(take);
            held.offset = 0;
            looked.restarted = true;
        }
        held.head = head;
        let budget = self.bytes_per_look.saturating_sub(looked.bytes);
        let too_many = length.saturating_sub(held.offset).saturating_sub(budget);
        if too_many > 0 {
            self.lines.end(take);
            self.lines.skipping = true;
            held.offset += too_many;
            looked.skipped_bytes += too_many;
        }
        let mut chunk = vec![0u8; CHUNK.min(usize::try_from(budget).unwrap_or(CHUNK))];
        // No further than what was there: who writes faster than is read must not hold this up.
        while held.offset < length {
            let wanted = chunk.len().min(usize::try_from(length - held.offset).unwrap_or(usize::MAX));
            let n = match held.file.read_at(&mut chunk[..wanted], held.offset) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(error(e)),
            };
            held.offset += n as u64;
            looked.bytes += n as u64;
            self.lines.take_in(&chunk[..n], take);
        }
        Ok(())
    }

    fn error(&self, source: std::io::Error) -> FollowError {
        FollowError::Read { path: self.path.clone(), source }
    }
}

fn id_of(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn head_of(file: &File) -> std::io::Result<Vec<u8>> {
    let mut head = vec![0u8; HEAD];
    let mut length = 0;
    while length < HEAD {
        match file.read_at(&mut head[length..], length as u64) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    head.truncate(length);
    Ok(head)
}

fn byte_at(file: &File, offset: u64) -> std::io::Result<Option<u8>> {
    let mut byte = [0u8];
    Ok((file.read_at(&mut byte, offset)? == 1).then_some(byte[0]))
}

/// Puts lines together from pieces. Bounded: of a line that is too long the beginning is kept.
#[derive(Debug, Default)]
pub struct Lines {
    bound: usize,
    begun: Vec<u8>,
    cut: bool,
    /// Whether all up to the next end of a line belongs to one of which the beginning is not known.
    skipping: bool,
}

impl Lines {
    /// Of lines of at most `bound` bytes.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self { bound, ..Self::default() }
    }

    /// Takes a piece and hands over the lines that ended in it.
    pub fn take_in(&mut self, piece: &[u8], take: &mut impl FnMut(&[u8], bool)) {
        let mut pieces = piece.split(|byte| *byte == b'\n');
        let Some(mut last) = pieces.next() else { return };
        for next in pieces {
            self.keep(last);
            if std::mem::take(&mut self.skipping) {
                self.begun.clear();
                self.cut = false;
            } else {
                self.hand_over(take);
            }
            last = next;
        }
        self.keep(last);
    }

    /// The line will not be ended any more: hands over what there is of it.
    pub fn end(&mut self, take: &mut impl FnMut(&[u8], bool)) {
        if !std::mem::take(&mut self.skipping) && !self.begun.is_empty() {
            self.hand_over(take);
        }
        self.begun.clear();
        self.cut = false;
    }

    fn keep(&mut self, piece: &[u8]) {
        if self.skipping {
            return;
        }
        let room = self.bound - self.begun.len();
        self.begun.extend_from_slice(&piece[..piece.len().min(room)]);
        self.cut |= piece.len() > room;
    }

    fn hand_over(&mut self, take: &mut impl FnMut(&[u8], bool)) {
        take(&self.begun, self.cut);
        self.begun.clear();
        self.cut = false;
    }
}
