//! A record of a run: its events, and the files of every job that did not simply pass, as a
//! tar file compressed with zstd that grows while the run goes on.
//!
//! ```text
//! events/000000.json           a line of `--json`
//! jobs/0007-qcow2-file-030/    the files of job 7; they stand before the line of its result
//! ```
//!
//! Each event is a zstd frame of its own together with the files that belong to it. What a
//! run that is killed leaves is therefore whole up to the last of them, and what a full disk
//! had no room for is left out whole. A thread of its own does the work: cores are large.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tar::{Builder, Header};
use zstd::stream::write::Encoder as Zstd;

use super::Sink;
use super::json::Encoder;
use super::rendered::Rendered;
use crate::diff::patch;
use crate::model::{Event, Finished, Outcome, Verdict};

/// The folder of the events.
pub const EVENTS: &str = "events";
/// The folder of the files of jobs.
pub const JOBS: &str = "jobs";

/// How strongly it is compressed: zstd's default.
const LEVEL: i32 = 3;

/// So many results may wait to be written; the run waits where there would be more.
const WAITING: usize = 4;

/// What the thread is told.
struct Message {
    /// The line of an event.
    line: Vec<u8>,
    /// What is kept with it, and in which folder.
    files: Vec<Kept>,
}

/// A file of a job.
struct Kept {
    /// Folder and name in the archive.
    name: PathBuf,
    content: Content,
}

enum Content {
    File(PathBuf),
    Bytes(Arc<Vec<u8>>),
}

/// The reporter that records.
pub(super) struct Record {
    path: PathBuf,
    encoder: Encoder,
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<Vec<String>>>,
    trouble: Option<io::Error>,
}

impl Record {
    /// Makes the file, with nothing in it yet.
    pub(super) fn create(path: &Path, encoder: Encoder) -> anyhow::Result<Self> {
        let what = || format!("cannot write the record {}", path.display());
        let file = File::create(path).with_context(what)?;
        let (sender, receiver) = sync_channel(WAITING);
        let writer = Writer::new(path, file);
        let thread = std::thread::Builder::new()
            .name("record".to_owned())
            .spawn(move || writer.follow(&receiver))
            .with_context(what)?;
        Ok(Self {
            path: path.to_owned(),
            encoder,
            sender: Some(sender),
            thread: Some(thread),
            trouble: None,
        })
    }

    /// Waits until everything is written; what went wrong.
    fn close(&mut self) -> Vec<String> {
        self.sender = None;
        // A panic there was reported where it happened.
        let thread = self.thread.take();
        thread.and_then(|t| t.join().ok()).unwrap_or_default()
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.close();
    }
}

impl Sink for Record {
    fn event(&mut self, event: &Event, rendered: Option<&Rendered<'_>>) {
        match self.encoder.line(event, rendered) {
            Ok(Some(line)) => {
                let files = rendered.map(kept).unwrap_or_default();
                if let Some(sender) = &self.sender {
                    // The thread ends when the sender does, and not before.
                    let _ = sender.send(Message { line, files });
                }
            }
            Ok(None) => {}
            Err(e) => {
                self.trouble.get_or_insert(e);
            }
        }
    }

    fn finish(&mut self) -> Vec<String> {
        let mut said = self.close();
        let path = self.path.display();
        let trouble = self.trouble.take();
        said.extend(trouble.map(|e| format!("cannot write the record {path}: {e}")));
        said
    }
}

/// What is kept of a job: nothing where it simply passed.
fn kept(rendered: &Rendered<'_>) -> Vec<Kept> {
    let finished = rendered.finished;
    let Some(outcome) = &finished.outcome else {
        return Vec::new();
    };
    if finished.verdict == Verdict::Pass && outcome.cores.is_empty() {
        return Vec::new();
    }
    let mut all = Folder::new(finished, outcome);
    all.file(&outcome.output);
    match (&finished.mismatch, &finished.reference) {
        // As it was compared: it may have been replaced since.
        (Some(mismatch), Some(path)) => all.bytes(path, Arc::clone(&mismatch.expected)),
        (None, Some(path)) => all.file(path),
        _ => {}
    }
    match (&rendered.diff, &rendered.diff_file) {
        // Whole, where it is long.
        (Some(_), Some(path)) => all.file(path),
        (Some(diff), None) => {
            let (old, new) = rendered.diff_names();
            let mut text = Vec::new();
            // Writing to memory cannot fail.
            let _ = patch(diff, &old, &new, &mut text);
            all.bytes(&outcome.output.with_extension("diff"), Arc::new(text));
        }
        (None, _) => {}
    }
    for (suffix, text) in [
        ("notrun", &outcome.notrun),
        ("casenotrun", &outcome.casenotrun),
    ] {
        if let Some(text) = text {
            let name = format!("{}.{suffix}", finished.job.test.name);
            all.bytes(Path::new(&name), Arc::new(text.clone()));
        }
    }
    let logs = outcome.sanitizer_logs.iter().chain(&outcome.stacks);
    for file in logs.chain(&outcome.cores) {
        all.file(file);
    }
    all.files
}

/// The files of one job, each under a name of its own.
struct Folder {
    dir: PathBuf,
    names: HashSet<OsString>,
    files: Vec<Kept>,
}

impl Folder {
    fn new(finished: &Finished, outcome: &Outcome) -> Self {
        let scratch = outcome.scratch.file_name().unwrap_or_default();
        let mut dir = OsString::from(format!("{:04}-", finished.job.id.0));
        dir.push(scratch);
        Self {
            dir: Path::new(JOBS).join(dir),
            names: HashSet::new(),
            files: Vec::new(),
        }
    }

    fn file(&mut self, path: &Path) {
        self.add(path, Content::File(path.to_owned()));
    }

    fn bytes(&mut self, path: &Path, bytes: Arc<Vec<u8>>) {
        self.add(path, Content::Bytes(bytes));
    }

    fn add(&mut self, path: &Path, content: Content) {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        while !self.names.insert(name.clone()) {
            name.push(".more");
        }
        self.files.push(Kept {
            name: self.dir.join(name),
            content,
        });
    }
}

/// The thread's end.
struct Writer {
    path: PathBuf,
    archive: Builder<Frames>,
    events: u32,
    said: Vec<String>,
    failed: bool,
}

impl Writer {
    fn new(path: &Path, file: File) -> Self {
        Self {
            path: path.to_owned(),
            archive: Builder::new(Frames {
                file,
                whole: 0,
                open: None,
            }),
            events: 0,
            said: Vec::new(),
            failed: false,
        }
    }

    /// Writes what comes, until nothing more can come; what went wrong.
    fn follow(mut self, receiver: &Receiver<Message>) -> Vec<String> {
        while let Ok(message) = receiver.recv() {
            let written = self.unit(&message);
            self.settle(written);
        }
        let finished = self.archive.finish();
        let finished = finished.and_then(|()| self.archive.get_mut().end());
        self.settle(finished);
        self.said
    }

    /// An event with its files, in one piece or not at all.
    fn unit(&mut self, message: &Message) -> io::Result<()> {
        for kept in &message.files {
            self.keep(kept)?;
        }
        let name = format!("{EVENTS}/{:06}.json", self.events);
        let mut header = header(message.line.len() as u64, SystemTime::now());
        let bytes = message.line.as_slice();
        self.archive.append_data(&mut header, name, bytes)?;
        self.archive.get_mut().end()?;
        self.events += 1;
        Ok(())
    }

    fn keep(&mut self, kept: &Kept) -> io::Result<()> {
        match &kept.content {
            Content::Bytes(bytes) => {
                let mut header = header(bytes.len() as u64, SystemTime::now());
                self.archive
                    .append_data(&mut header, &kept.name, bytes.as_slice())
            }
            Content::File(path) => {
                // What is not a plain file is not opened: a pipe would wait for a writer.
                let opened = std::fs::metadata(path).and_then(|meta| {
                    let file = meta.is_file().then(|| File::open(path));
                    Ok((meta, file.transpose()?))
                });
                let (meta, file) = match opened {
                    Ok(opened) => opened,
                    // The runner removes the files of tests that it is done with.
                    Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
                    Err(e) => {
                        let (record, path) = (self.path.display(), path.display());
                        self.said.push(format!(
                            "{record} is without {path}, which cannot be read: {e}"
                        ));
                        return Ok(());
                    }
                };
                let Some(mut file) = file else {
                    return Ok(());
                };
                if meta.blocks() * 512 < meta.len() {
                    // A core has more holes than data.
                    return self.archive.append_file(&kept.name, &mut file);
                }
                let mut header = header(meta.len(), meta.modified().unwrap_or(UNIX_EPOCH));
                // One that is cut short meanwhile is filled up, or all behind it were lost.
                let exact = file.chain(io::repeat(0)).take(meta.len());
                self.archive.append_data(&mut header, &kept.name, exact)
            }
        }
    }

    /// What could not be written is left out; later units may find room again.
    fn settle(&mut self, written: io::Result<()>) {
        let Err(e) = written else { return };
        self.archive.get_mut().give_up();
        if !self.failed {
            self.failed = true;
            let path = self.path.display();
            self.said
                .push(format!("cannot write the record {path}: {e}"));
        }
    }
}

fn header(size: u64, modified: SystemTime) -> Header {
    let mut header = Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    header.set_mtime(since.as_secs());
    header
}

/// A file of zstd frames.
struct Frames {
    file: File,
    /// The length of its whole frames.
    whole: u64,
    /// The frame that is being written.
    open: Option<Zstd<'static, File>>,
}

impl Frames {
    /// Ends the frame.
    fn end(&mut self) -> io::Result<()> {
        if let Some(open) = self.open.take() {
            open.finish()?;
            // A pipe has no position, and needs none.
            self.whole = self.file.stream_position().unwrap_or(0);
        }
        Ok(())
    }

    /// Removes the frame.
    fn give_up(&mut self) {
        self.open = None;
        let _ = self.file.set_len(self.whole);
        let _ = self.file.seek(SeekFrom::Start(self.whole));
    }
}

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(Zstd::new(self.file.try_clone()?, LEVEL)?),
        };
        open.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open.as_mut().map_or(Ok(()), Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(bytes: &[u8]) -> Vec<(String, u64)> {
        let decoder = zstd::stream::read::Decoder::new(bytes).unwrap();
        let mut archive = tar::Archive::new(decoder);
        let entries = archive.entries().unwrap();
        entries
            .map_while(Result::ok)
            .map(|e| (e.path().unwrap().display().to_string(), e.size()))
            .collect()
    }

    fn message(line: &str, files: Vec<Kept>) -> Message {
        Message {
            line: line.as_bytes().to_vec(),
            files,
        }
    }

    fn of_file(name: &str, path: &Path) -> Kept {
        Kept {
            name: name.into(),
            content: Content::File(path.to_owned()),
        }
    }

    #[test]
    fn holes_cost_nothing_and_files_that_are_gone_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let core = dir.path().join("core");
        let mut file = File::create(&core).unwrap();
        file.seek(SeekFrom::Start(1 << 40)).unwrap();
        file.write_all(b"end").unwrap();
        let path = dir.path().join("x.tar.zst");
        let mut writer = Writer::new(&path, File::create(&path).unwrap());
        let files = vec![
            of_file("jobs/0/core", &core),
            of_file("jobs/0/gone", &dir.path().join("gone")),
        ];
        writer.unit(&message("{}\n", files)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() < 2000, "{}", bytes.len());
        assert_eq!(
            members(&bytes),
            [
                ("jobs/0/core".to_owned(), (1 << 40) + 3),
                ("events/000000.json".to_owned(), 3)
            ]
        );
    }

    #[test]
    fn a_unit_that_cannot_be_written_is_left_out_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar.zst");
        let mut writer = Writer::new(&path, File::create(&path).unwrap());
        writer.unit(&message("{\"a\":1}\n", Vec::new())).unwrap();
        let big = Kept {
            name: "jobs/0/big".into(),
            content: Content::Bytes(Arc::new(vec![1; 1000])),
        };
        writer.keep(&big).unwrap();
        writer.settle(Err(ErrorKind::StorageFull.into()));
        writer.settle(Err(ErrorKind::StorageFull.into()));
        writer.unit(&message("{\"b\":1}\n", Vec::new())).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let names: Vec<String> = members(&bytes).into_iter().map(|m| m.0).collect();
        assert_eq!(names, ["events/000000.json", "events/000001.json"]);
        assert_eq!(writer.said.len(), 1, "{:?}", writer.said);
    }
}
