use std::process::Stdio;

use anyhow::Result;
use tokio::process::Command;

use crate::command::run;

/// Runs `sql` in psql and gives what it prints, unaligned and without headers. An error in SQL is an error here.
pub async fn psql(connection_string: &str, sql: &str) -> Result<String> {
    let mut command = Command::new("psql");
    command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "-d"]);
    command.args([connection_string, "-c", sql]).stdin(Stdio::null()).kill_on_drop(true);
    run(&format!("psql: {sql}"), &mut command).await
}
