//! What is done to log files, on real files.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use forefend_telemetry::logs::{
    FollowError, Follower,
    follow::{Lines, Looked},
};
use proptest::prelude::*;
use tempfile::TempDir;

/// A followed log in a directory of its own.
struct Story {
    dir: TempDir,
    follower: Follower,
}

impl Story {
    fn new() -> Self {
        Self::reading(1 << 20)
    }

    fn reading(bytes_per_look: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let follower = Follower::new(dir.path().join("app.log"), bytes_per_look, 64);
        Self { dir, follower }
    }

    /// Followed from its first byte on.
    fn from_the_beginning() -> Self {
        let mut story = Self::new();
        assert_eq!(story.look(), (Looked::default(), vec![]), "it is not there yet");
        story
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        append_to(&self.path(name), text);
    }

    fn look(&mut self) -> (Looked, Vec<String>) {
        let mut lines = Vec::new();
        let looked = self.follower.look(|line, cut| {
            lines.push(String::from_utf8_lossy(line).into_owned() + if cut { "…" } else { "" });
        });
        (looked.unwrap(), lines)
    }

    /// The lines of as many looks as it takes until nothing new comes.
    fn lines(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..4 {
            all.extend(self.look().1);
        }
        all
    }
}

fn append_to(path: &Path, text: &str) {
    OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn a_file_that_is_there_is_followed_from_its_end() {
    let mut story = Story::new();
    story.append("app.log", "old\nhalf of a li");
    assert_eq!(story.lines(), [""; 0]);
    story.append("app.log", "ne\nnew\n");
    assert_eq!(story.lines(), ["new"], "of the half line the beginning is not known");
}

#[test]
fn a_file_that_appears_later_is_read_from_its_beginning_and_half_lines_wait() {
    let mut story = Story::from_the_beginning();
    story.append("app.log", "one\ntw");
    let (looked, lines) = story.look();
    assert_eq!((looked.present, looked.restarted, lines), (true, false, vec!["one".to_owned()]));
    story.append("app.log", "o\n");
    assert_eq!(story.lines(), ["two"]);
    assert!(story.look().0.present, "silent, but there");
}

#[test]
fn renamed_and_created_anew() {
    let mut story = Story::from_the_beginning();
    story.append("app.log", "one\n");
    assert_eq!(story.lines(), ["one"]);
    story.append("app.log", "two\n");
    fs::rename(story.path("app.log"), story.path("app.log.1")).unwrap();
    // The writer has not noticed yet.
    story.append("app.log.1", "three\n");
    let (looked, lines) = story.look();
    assert!(looked.present && lines == ["two", "three"]);
    assert!(!story.look().0.present, "nothing is there, and nothing is written to what was");
    story.append("app.log", "four\n");
    story.append("app.log.1", "late\nhalf");
    let mut lines = story.lines();
    assert_eq!(lines, ["late", "half", "four"], "what was is read to its end first");
    story.append("app.log", "five\n");
    lines = story.lines();
    assert_eq!(lines, ["five"]);
}

#[test]
fn a_writer_that_never_lets_go_of_the_old_file_does_not_hide_the_new_one() {
    let mut story = Story::from_the_beginning();
    story.append("app.log", "one\n");
    story.look();
    fs::rename(story.path("app.log"), story.path("app.log.1")).unwrap();
    story.append("app.log", "new\n");
    let mut seen = Vec::new();
    for i in 0..20 {
        story.append("app.log.1", &format!("old {i}\n"));
        seen.extend(story.look().1);
    }
    assert!(seen.contains(&"new".to_owned()), "{seen:?}");
}

#[test]
fn copied_and_truncated() {
    let mut story = Story::from_the_beginning();
    story.append("app.log", "one one one\ntwo two two\nhalf");
    assert_eq!(story.lines(), ["one one one", "two two two"]);
    fs::copy(story.path("app.log"), story.path("app.log.1")).unwrap();
    OpenOptions::new().write(true).open(story.path("app.log")).unwrap().set_len(0).unwrap();
    story.append("app.log", "three\n");
    let (looked, lines) = story.look();
    assert!(looked.restarted);
    assert_eq!(lines, ["half", "three"]);
}

#[test]
fn truncated_and_longer_again_before_anybody_looked() {
    let mut story = Story::from_the_beginning();
    story.append("app.log", "22:00:01 one\n");
    assert_eq!(story.lines(), ["22:00:01 one"]);
    OpenOptions::new().write(true).open(story.path("app.log")).unwrap().set_len(0).unwrap();
    story.append("app.log", "22:00:02 two\n22:00:03 three\n");
    assert_eq!(story.lines(), ["22:00:02 two", "22:00:03 three"]);
}

#[test]
fn deleted_and_created_again_even_with_the_same_inode() {
    let mut story = Story::from_the_beginning();
    story.append("app.log", "one\n");
    assert_eq!(story.lines(), ["one"]);
    let mut writer = OpenOptions::new().append(true).open(story.path("app.log")).unwrap();
    fs::remove_file(story.path("app.log")).unwrap();
    writer.write_all(b"into nothing\n").unwrap();
    assert_eq!(story.look().1, ["into nothing"]);
    drop(writer);
    let (looked, _) = story.look();
    assert!(!looked.present);
    let open: Vec<_> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        .filter(|file| file.starts_with(story.dir.path()))
        .collect();
    assert_eq!(open, [""; 0].map(PathBuf::from), "a deleted file is not kept from giving back its space");
    story.append("app.log", "two\n");
    assert_eq!(story.lines(), ["two"]);
}

#[test]
fn a_symbolic_link_that_is_turned_over() {
    let mut story = Story::new();
    story.append("2026-11-21.log", "old\n");
    symlink(story.path("2026-11-21.log"), story.path("app.log")).unwrap();
    assert_eq!(story.lines(), [""; 0]);
    story.append("2026-11-21.log", "one\n");
    story.append("2026-11-22.log", "two\n");
    fs::remove_file(story.path("app.log")).unwrap();
    symlink(story.path("2026-11-22.log"), story.path("app.log")).unwrap();
    assert_eq!(story.lines(), ["one", "two"]);
}

#[test]
fn a_burst_is_skipped_and_said() {
    let mut story = Story::reading(1_000);
    assert!(!story.look().0.present);
    let burst: String = (0..1_000).map(|i| format!("line {i:04}\n")).collect();
    story.append("app.log", &burst);
    let (looked, lines) = story.look();
    assert_eq!((looked.bytes, looked.skipped_bytes), (1_000, 9_000));
    assert_eq!(lines.len(), 99, "the newest, less the one that was torn");
    assert_eq!(lines.last().unwrap(), "line 0999");
    story.append("app.log", "after\n");
    assert_eq!(story.lines(), ["after"]);
}

#[test]
fn a_line_without_end_is_cut_not_lost() {
    let mut story = Story::from_the_beginning();
    story.append("app.log", &"x".repeat(100_000));
    assert_eq!(story.lines(), [""; 0]);
    story.append("app.log", "end\nnext\n");
    assert_eq!(story.lines(), ["x".repeat(64) + "…", "next".into()]);
}

#[test]
fn what_is_no_log_is_refused_with_a_remedy() {
    let mut story = Story::from_the_beginning();
    fs::create_dir(story.path("app.log")).unwrap();
    let error = story.follower.look(|_, _| {}).unwrap_err();
    assert!(matches!(error, FollowError::NoFile { .. }) && error.to_string().contains("app.log"), "{error}");
    fs::remove_dir(story.path("app.log")).unwrap();
    File::create(story.path("app.log")).unwrap().write_all(&[0x1f, 0x8b, 8, 0]).unwrap();
    let error = story.follower.look(|_, _| {}).unwrap_err();
    assert!(matches!(error, FollowError::Compressed { .. }), "{error}");
    fs::remove_file(story.path("app.log")).unwrap();
    story.append("app.log", "a log after all\n");
    assert_eq!(story.lines(), ["a log after all"]);
}

proptest! {
    #[test]
    fn lines_do_not_depend_on_the_pieces_they_come_in(bytes in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(b'\n')], 0..300), pieces in 1usize..40) {
        let (mut whole, mut torn) = (Vec::new(), Vec::new());
        let mut lines = Lines::new(20);
        lines.take_in(&bytes, &mut |line, cut| whole.push((line.to_vec(), cut)));
        let mut lines = Lines::new(20);
        for piece in bytes.chunks(pieces) {
            lines.take_in(piece, &mut |line, cut| torn.push((line.to_vec(), cut)));
        }
        prop_assert_eq!(&whole, &torn);
        prop_assert_eq!(whole.len(), bytes.iter().filter(|b| **b == b'\n').count());
        prop_assert!(whole.iter().all(|(line, _)| line.len() <= 20));
    }
}
