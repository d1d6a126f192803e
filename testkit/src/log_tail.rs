use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep};

/// A state of pgherd may last for a few milliseconds only.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Reads what a program adds to its log.
#[derive(Debug)]
pub struct LogTail {
    path: PathBuf,
    offset: u64,
    /// The beginning of a line whose end has not been written.
    begun: String,
}

impl LogTail {
    /// From the present end of the log on.
    pub(crate) fn of(path: &Path) -> Self {
        let offset = path.metadata().map_or(0, |it| it.len());
        Self { path: path.to_owned(), offset, begun: String::new() }
    }

    /// The lines that were added since the last call.
    pub fn read(&mut self) -> Result<Vec<String>> {
        let mut file = File::open(&self.path).with_context(|| self.path.display().to_string())?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut added = Vec::new();
        self.offset += u64::try_from(file.read_to_end(&mut added)?)?;
        self.begun += &String::from_utf8_lossy(&added);
        let Some(end) = self.begun.rfind('\n') else { return Ok(Vec::new()) };
        let rest = self.begun.split_off(end + 1);
        let whole = std::mem::replace(&mut self.begun, rest);
        Ok(whole.lines().map(str::to_owned).collect())
    }

    /// Waits for a line that `is_it` accepts, and gives it. What comes before it is passed over; what is written with it is kept
    /// for the next call.
    pub async fn wait(
        &mut self,
        what: &str,
        within: Duration,
        is_it: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let deadline = Instant::now() + within;
        let mut seen = Vec::new();
        loop {
            let lines = self.read()?;
            if let Some(at) = lines.iter().position(|line| is_it(line)) {
                let behind: String = lines.iter().skip(at + 1).map(|line| format!("{line}\n")).collect();
                self.begun.insert_str(0, &behind);
                return lines.into_iter().nth(at).context("a line");
            }
            seen.extend(lines);
            if Instant::now() > deadline {
                bail!("{what} is not in {} within {within:?}:\n{}", self.path.display(), seen.join("\n"));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn lines_come_whole_and_once_and_those_behind_the_one_waited_for_come_next() {
        let path = std::env::temp_dir().join(format!("pgherd-log-tail-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        file.write_all(b"before\n").unwrap();
        let mut tail = LogTail::of(&path);
        file.write_all(b"one\ntwo\nthree\nfo").unwrap();
        let two = tail.wait("two", Duration::from_secs(10), |line| line == "two").await.unwrap();
        assert_eq!(two, "two");
        file.write_all(b"ur\n").unwrap();
        assert_eq!(tail.read().unwrap(), ["three", "four"]);
        assert!(tail.read().unwrap().is_empty());
        let never = tail.wait("five", Duration::ZERO, |line| line == "five").await;
        assert!(never.is_err());
        std::fs::remove_file(path).unwrap();
    }
}
