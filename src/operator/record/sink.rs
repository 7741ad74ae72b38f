//! The place to which lines are written: standard output, or a file with a limited size.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Only the owner reads the file: a record shows what users wrote into their objects.
const MODE: u32 = 0o600;

/// The place to which records are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// This file. Records are appended to it.
    File(PathBuf),
}

/// The same place, open.
pub(super) enum Sink {
    /// Standard output, which another program limits.
    Stdout,
    /// A file.
    File(FileSink),
}

/// A file that is renamed when it is full. It and the file before it exist, so the disk has at most twice the size.
pub(super) struct FileSink {
    path: PathBuf,
    file: File,
    bytes: u64,
    max_bytes: u64,
    /// Whether the file ends in the middle of a line, because a write failed or a process ended.
    is_torn: bool,
}

impl Sink {
    pub(super) fn open(destination: &Destination, max_bytes: u64) -> io::Result<Self> {
        match destination {
            Destination::Stdout => Ok(Sink::Stdout),
            Destination::File(path) => FileSink::open(path, max_bytes).map(Sink::File),
        }
    }

    /// Whether a line of this length can be written at all.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        match self {
            Sink::Stdout => true,
            Sink::File(file) => bytes as u64 <= file.max_bytes,
        }
    }

    /// Writes a line, which ends with a line feed.
    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        match self {
            Sink::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(line.as_bytes())?;
                stdout.flush()
            }
            Sink::File(file) => file.write(line.as_bytes()),
        }
    }
}

impl FileSink {
    fn open(path: &Path, max_bytes: u64) -> io::Result<Self> {
        // The open of a pipe would wait for its reader.
        if std::fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            let message = "it must be the name of a regular file, or - for standard output";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)?;
        let bytes = file.metadata()?.len();
        let mut last = [b'\n'];
        if bytes > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        Ok(Self { path: path.to_owned(), file, bytes, max_bytes, is_torn: last != [b'\n'] })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let needed = line.len() as u64 + u64::from(self.is_torn);
        if self.bytes > 0 && self.bytes.saturating_add(needed) > self.max_bytes {
            match std::fs::rename(&self.path, former(&self.path)) {
                // Somebody has moved the file away already.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                renamed => renamed?,
            }
            *self = Self::open(&self.path, self.max_bytes)?;
        }
        if self.is_torn {
            self.append(b"\n")?;
            self.is_torn = false;
        }
        self.append(line)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(bytes);
        match &written {
            Ok(()) => self.bytes = self.bytes.saturating_add(bytes.len() as u64),
            // A part may have been written.
            Err(_) => {
                let there = self.file.metadata().map_or(self.bytes, |there| there.len());
                self.is_torn = self.is_torn || there != self.bytes;
                self.bytes = there;
            }
        }
        written
    }
}

/// The name to which a full file is renamed.
fn former(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".1");
    name.into()
}
