//! The output of supervised processes: a bounded file each, and the last lines in memory.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A log larger than this is moved to `<name>.log.1`.
const FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;
const TAIL_BYTES_MAX: usize = 4096;
/// Lines kept for [`crate::spec::ProcessStatus::last_exit`].
pub(crate) const TAIL_LINES: usize = 20;
/// How much of a log can be read at once.
const READ_BYTES_MAX: u64 = 1024 * 1024;

/// All logs; one object per process name, shared by its successive runs.
#[derive(Debug)]
pub(crate) struct Logs {
    directory: PathBuf,
    open: Mutex<HashMap<String, Arc<ProcessLog>>>,
}

/// The log of one process.
#[derive(Debug)]
pub(crate) struct ProcessLog {
    path: PathBuf,
    bytes_max: u64,
    state: Mutex<LogState>,
}

#[derive(Debug, Default)]
struct LogState {
    file: Option<File>,
    size_bytes: u64,
    tail: Vec<u8>,
}

impl Logs {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, open: Mutex::default() }
    }

    /// The log of that process (its name has been checked).
    pub(crate) fn of(&self, process: &str) -> Arc<ProcessLog> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let log = open.entry(process.to_owned()).or_insert_with(|| {
            let path = self.directory.join(format!("{process}.log"));
            Arc::new(ProcessLog { path, bytes_max: FILE_BYTES_MAX, state: Mutex::default() })
        });
        Arc::clone(log)
    }

    /// The last lines of a process' log; `None` when it has none.
    pub(crate) fn read(&self, process: &str, lines: usize) -> io::Result<Option<Vec<u8>>> {
        self.of(process).read(lines)
    }
}

impl ProcessLog {
    /// Appends output. A full disk must not stop the process, so failures only cost the file's part of it.
    pub(crate) fn write(&self, output: &[u8]) {
        let mut state = self.lock();
        state.tail.extend_from_slice(output);
        let excess = state.tail.len().saturating_sub(TAIL_BYTES_MAX);
        state.tail.drain(..excess);
        if let Err(error) = self.append(&mut state, output) {
            state.file = None;
            tracing::debug!(path = %self.path.display(), %error, "log not written");
        }
    }

    fn append(&self, state: &mut LogState, output: &[u8]) -> io::Result<()> {
        if state.size_bytes >= self.bytes_max && state.file.take().is_some() {
            fs::rename(&self.path, self.rotated_path())?;
        }
        let file = match &mut state.file {
            Some(file) => file,
            empty => {
                if let Some(parent) = self.path.parent() {
                    fs::create_dir_all(parent)?;
                }
                let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
                state.size_bytes = file.metadata()?.len();
                empty.insert(file)
            }
        };
        file.write_all(output)?;
        state.size_bytes += output.len() as u64;
        Ok(())
    }

    /// Forgets the last run's lines.
    pub(crate) fn start_run(&self) {
        self.lock().tail.clear();
    }

    /// The last lines of this run.
    pub(crate) fn tail(&self) -> String {
        String::from_utf8_lossy(last_lines(&self.lock().tail, TAIL_LINES)).trim_end().to_owned()
    }

    fn read(&self, lines: usize) -> io::Result<Option<Vec<u8>>> {
        let current = read_end(&self.path)?;
        let mut bytes = read_end(&self.rotated_path())?;
        if current.is_none() && bytes.is_none() {
            return Ok(None);
        }
        let bytes = match &mut bytes {
            // A log that was rotated a moment ago is short; what went before is still of interest.
            Some(older) => {
                older.extend_from_slice(&current.unwrap_or_default());
                std::mem::take(older)
            }
            None => current.unwrap_or_default(),
        };
        Ok(Some(last_lines(&bytes, lines).to_vec()))
    }

    fn rotated_path(&self) -> PathBuf {
        self.path.with_extension("log.1")
    }

    fn lock(&self) -> MutexGuard<'_, LogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_end(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(READ_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(READ_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// The last `lines` lines; a last line without its end counts as one.
fn last_lines(bytes: &[u8], lines: usize) -> &[u8] {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let start = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').nth(lines.saturating_sub(1));
    match start {
        _ if lines == 0 => &[],
        Some((index, _)) => &bytes[index + 1..],
        None => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_from_the_end() {
        assert_eq!(last_lines(b"a\nb\nc\n", 2), b"b\nc\n");
        assert_eq!(last_lines(b"a\nb\nc", 1), b"c");
        assert_eq!(last_lines(b"a\n", 5), b"a\n");
        assert_eq!(last_lines(b"a\n", 0), b"");
        assert_eq!(last_lines(b"", 3), b"");
    }

    #[test]
    fn a_log_is_bounded_and_read_over_the_rotation() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p.log");
        let log = ProcessLog { path: path.clone(), bytes_max: 100, state: Mutex::default() };
        for number in 0..60 {
            log.write(format!("line {number}\n").as_bytes());
        }
        assert!(fs::metadata(&path).unwrap().len() <= 108);
        assert!(fs::metadata(log.rotated_path()).unwrap().len() <= 108);
        assert_eq!(log.tail().lines().count(), TAIL_LINES);
        let read = String::from_utf8(log.read(12).unwrap().unwrap()).unwrap();
        let expected: Vec<String> = (48..60).map(|number| format!("line {number}")).collect();
        assert_eq!(read.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_unknown_log_is_none() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Logs::new(directory.path().into()).read("nobody", 5).unwrap().is_none());
    }
}
