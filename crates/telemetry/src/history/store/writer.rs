//! The thread that writes the store, so that a slow or full disk never holds up the loop.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use forefend_domain::Timestamp;

use super::{Batch, RecordingOptions, folder};
use crate::history::error::HistoryError;

/// Batches that may wait: a minute or so of ticks while a segment is sealed.
const WAITING: usize = 64;

enum Message {
    Write(Batch),
    /// Answered once all before it was written, or lost.
    Tell(SyncSender<()>),
}

pub(super) struct Writer {
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<()>>,
    status: Arc<Mutex<Status>>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Status {
    /// Batches that were lost.
    pub(super) lost: u64,
    /// Why the last one was; `None` once one was written again.
    pub(super) problem: Option<String>,
}

impl Writer {
    pub(super) fn start(options: RecordingOptions) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let status = Arc::new(Mutex::new(Status::default()));
        let told = Arc::clone(&status);
        let thread = std::thread::Builder::new().name("history".to_owned()).spawn(move || {
            Files { options, journal: None, folder_problem: None, status: told }.write_all(&receiver);
        })?;
        Ok(Self { sender: Some(sender), thread: Some(thread), status })
    }

    /// Hands a batch over; `false` when there is no room for it.
    pub(super) fn write(&self, batch: Batch) -> bool {
        match self.sender.as_ref().map(|sender| sender.try_send(Message::Write(batch))) {
            Some(Ok(())) => true,
            Some(Err(TrySendError::Full(_))) => {
                self.lose("the disk is too slow for what is recorded");
                false
            }
            Some(Err(TrySendError::Disconnected(_))) | None => {
                self.lose("its thread ended");
                false
            }
        }
    }

    /// Waits until all that was handed over is written or lost.
    pub(super) fn flush(&self) {
        let (tell, told) = sync_channel(1);
        if let Some(sender) = &self.sender
            && sender.send(Message::Tell(tell)).is_ok()
        {
            // An error is that its thread ended, and then nothing is under way.
            let _ = told.recv();
        }
    }

    fn lose(&self, why: &str) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.lost += 1;
        status.problem = Some(why.to_owned());
    }

    pub(super) fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Writer {
    /// Waits until all that was handed over is written.
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was told by the runtime already.
            let _ = thread.join();
        }
    }
}

struct Journal {
    file: File,
    path: PathBuf,
    /// Bytes that are whole batches.
    bytes: u64,
}

struct Files {
    options: RecordingOptions,
    journal: Option<Journal>,
    /// What is wrong with sealed files: it hinders no recording.
    folder_problem: Option<String>,
    status: Arc<Mutex<Status>>,
}

impl Files {
    fn write_all(mut self, messages: &Receiver<Message>) {
        while let Ok(message) = messages.recv() {
            let batch = match message {
                Message::Write(batch) => batch,
                Message::Tell(tell) => {
                    // Who asked may be gone.
                    let _ = tell.send(());
                    continue;
                }
            };
            let written = self.write(&batch);
            let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
            match written {
                Ok(true) => status.problem.clone_from(&self.folder_problem),
                Ok(false) => {}
                Err(error) => {
                    status.lost += 1;
                    status.problem = Some(error.to_string());
                }
            }
        }
    }

    /// `false`: after a loss nothing is written until a new segment begins.
    fn write(&mut self, batch: &Batch) -> Result<bool, HistoryError> {
        if let Some(now) = batch.begins {
            self.begin(now)?;
        }
        let Some(journal) = &mut self.journal else { return Ok(false) };
        match journal.file.write_all(&batch.bytes) {
            Ok(()) => {
                journal.bytes += batch.bytes.len() as u64;
                Ok(true)
            }
            Err(source) => {
                let path = journal.path.clone();
                // What is torn would end the reading of what is whole, if anything were appended; nothing is.
                let _ = journal.file.set_len(journal.bytes);
                if journal.bytes == 0 {
                    let _ = std::fs::remove_file(&path);
                }
                self.journal = None;
                Err(HistoryError::Write { path, source })
            }
        }
    }

    fn begin(&mut self, now: Timestamp) -> Result<(), HistoryError> {
        self.journal = None;
        let folder = &self.options.folder;
        // First, so that nothing is lost while the segment before is sealed.
        let path = (0..1_000)
            .map(|n| folder::journal_path(folder, Timestamp::from_unix_ms(now.unix_ms().saturating_add(n))))
            .find(|path| !path.exists())
            .unwrap_or_else(|| folder::journal_path(folder, now));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(HistoryError::write(&path))?;
        let (keep, max_bytes) = (self.options.keep, self.options.max_bytes);
        // Before sealing too: it may be what makes room for it.
        let done = folder::drop_old(folder, now, keep, max_bytes, Some(&path))
            .and_then(|()| folder::seal_all(folder, Some(&path)))
            .and_then(|()| folder::drop_old(folder, now, keep, max_bytes, Some(&path)));
        self.folder_problem = done.err().map(|error| error.to_string());
        self.journal = Some(Journal { file, path, bytes: 0 });
        Ok(())
    }
}
