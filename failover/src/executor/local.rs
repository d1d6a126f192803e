//! Runs an operator's command on pgherd's own machine.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tracing::{info, warn};

use super::ran::{Failure, Ran, excerpt};
use super::template::{Template, Values};

/// How long a command has from SIGTERM to SIGKILL, at most.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What was written is read for this long after the end: a server that was started may keep the output open for ever.
const AFTERWARDS: Duration = Duration::from_millis(50);
/// How much of the end of the output is kept.
const OUTPUT_KEPT: usize = 16 * 1024;
/// Variables of pgherd's own environment that a command gets. Others may be secrets.
const INHERITED: [&str; 4] = ["PATH", "HOME", "TZ", "TMPDIR"];

/// Runs a command until it ends. Before its time is over its whole process group is told to end, and then killed.
pub(super) async fn run(
    step: &'static str,
    template: &Template,
    values: &Values<'_>,
    deadline: Duration,
) -> Result<Ran, Failure> {
    let (mut running, mut output) = Running::start(step, &template.fill(values), values)
        .map_err(|error| Failure::NotStarted(format!("the command could not be run: {error}")))?;
    let ended = output.read_beside(running.end(deadline)).await;
    let output = output.text();
    let said = excerpt(&output);
    let Some(status) = ended else {
        warn!(step, output = said, "the command was ended");
        return Err(Failure::Lost(format!(
            "the command was ended, it was not done within {deadline:?}: {said}"
        )));
    };
    info!(step, %status, output = said, "the command has ended");
    // As a shell tells of a process that was ended by a signal.
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(Ran { status: code.unsigned_abs(), output })
}

/// A command that runs. It is killed, with all that it has begun, when nobody waits for it any more.
struct Running {
    child: Child,
    group: Option<Pid>,
}

impl Running {
    fn start(step: &str, words: &[String], values: &Values<'_>) -> io::Result<(Self, Output)> {
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        // One pipe for both, so that lines stay in their order.
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir("/").process_group(0).env_clear();
        command.envs(INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
        command.env("PGHERD_COMMAND_STEP", step).envs(values.variables());
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn()?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pipe = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
        Ok((Self { child, group }, Output { pipe, open: true, kept: Vec::new() }))
    }

    /// How it ended; none if it had to be ended.
    async fn end(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let last_words = LAST_WORDS.min(deadline / 4);
        if let Ok(ended) = timeout(deadline.saturating_sub(last_words * 2), self.child.wait()).await {
            // What it has left behind, such as a server, is to stay.
            self.group = None;
            return ended.ok();
        }
        self.signal(Signal::TERM);
        let _ = timeout(last_words, self.child.wait()).await;
        None
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It may have just ended.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// The end of what a command writes.
struct Output {
    pipe: pipe::Receiver,
    open: bool,
    kept: Vec<u8>,
}

impl Output {
    /// Reads while something else goes on, so that the command need not wait for us, and for a moment afterwards.
    async fn read_beside<T>(&mut self, other: impl Future<Output = T>) -> T {
        tokio::pin!(other);
        let value = loop {
            // Cancel safety: a read that is not picked has taken nothing out of the pipe.
            tokio::select! {
                value = &mut other => break value,
                () = self.read(), if self.open => {}
            }
        };
        let rest = async {
            while self.open {
                self.read().await;
            }
        };
        let _ = timeout(AFTERWARDS, rest).await;
        value
    }

    async fn read(&mut self) {
        let mut chunk = [0; 4096];
        let read = self.pipe.read(&mut chunk).await.unwrap_or(0);
        self.open = read > 0;
        self.kept.extend_from_slice(chunk.get(..read).unwrap_or_default());
        let surplus = self.kept.len().saturating_sub(OUTPUT_KEPT);
        self.kept.drain(..surplus);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use pgherd_health::{Node, NodeId};

    use super::super::template::Subject;
    use super::*;

    async fn command(words: &[&str], deadline: Duration) -> Result<Ran, Failure> {
        let node =
            Node { data_directory: "/data".to_owned(), ..Node::new(NodeId(1), "pg01".to_owned(), 5432) };
        let template = Template::parse(words.iter().copied(), false).unwrap();
        let values = Values { server: Subject { node: &node, name: None }, upstream: None };
        run("promote", &template, &values, deadline).await
    }

    async fn shell(script: &str, deadline: Duration) -> Result<Ran, Failure> {
        command(&["/bin/sh", "-c", script], deadline).await
    }

    /// True if it is there, and is not merely waiting for its parent to hear of its end.
    fn lives(pid: &str) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        state.is_ok_and(|stat| !stat.contains(") Z "))
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_command_says_how_it_ended_and_what_it_wrote_last() {
        let Ok(Ran { status, output }) = shell("seq 1 10000; echo no >&2; exit 7", LONG).await else {
            panic!("it ran")
        };
        assert_eq!((status, output.len()), (7, OUTPUT_KEPT));
        assert!(output.ends_with("9999\n10000\nno\n"), "{output}");
    }

    #[tokio::test]
    async fn a_command_is_told_of_its_step_and_not_of_our_environment() {
        let ran = shell("env | grep -v -e ^PATH -e ^HOME -e ^PWD -e ^SHLVL -e ^_ -e ^T; pwd", LONG).await;
        let mut lines: Vec<String> = ran.unwrap().output.lines().map(str::to_owned).collect();
        lines.sort();
        let expected = [
            "/",
            "PGHERD_COMMAND_DATA_DIRECTORY=/data",
            "PGHERD_COMMAND_HOST=pg01",
            "PGHERD_COMMAND_NAME=pg01",
            "PGHERD_COMMAND_NODE=1",
            "PGHERD_COMMAND_PORT=5432",
            "PGHERD_COMMAND_STEP=promote",
        ];
        assert_eq!(lines, expected);
    }

    #[tokio::test]
    async fn a_command_that_leaves_a_server_behind_is_not_waited_for_longer_than_it_takes_itself() {
        let began = Instant::now();
        let ran = shell("sleep 30 & echo $!", LONG).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(10));
        let pid = ran.output.trim();
        assert!(lives(pid), "it was left alone");
        rustix::process::kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn what_does_not_end_in_time_is_ended_with_all_that_it_has_begun() {
        let began = Instant::now();
        let script = "trap '' TERM; sleep 30 & echo $!; wait; sleep 30";
        let Err(Failure::Lost(why)) = shell(script, Duration::from_millis(800)).await else {
            panic!("it was ended")
        };
        assert!(began.elapsed() < Duration::from_secs(10), "{why}");
        let pid = why.rsplit(' ').next().unwrap();
        let gone = async {
            while lives(pid) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), gone).await.expect("its child was killed");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_has_not_been_started() {
        let ran = command(&["/no/program"], LONG).await;
        assert!(matches!(&ran, Err(Failure::NotStarted(why)) if why.contains("No such file")), "{ran:?}");
    }
}
