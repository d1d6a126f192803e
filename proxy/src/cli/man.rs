//! The manual page.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_mangen::Man;

use super::Cli;

/// Writes all of it: the program, and each of its commands.
///
/// # Errors
/// Whatever `out` says.
pub(super) fn render(out: &mut dyn Write) -> io::Result<()> {
    let command = Cli::command();
    let man = Man::new(command.clone());
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    let shown = command.get_subcommands().filter(|it| !it.is_hide_set());
    for command in shown {
        let command = command.clone().display_name(format!("pgherd {}", command.get_name()));
        writeln!(out, ".SH COMMAND {}", command.get_name().to_uppercase())?;
        if let Some(about) = command.get_long_about().or_else(|| command.get_about()) {
            writeln!(out, "{about}")?;
        }
        let arguments = command.get_arguments().filter(|it| it.get_id() != "help");
        for argument in arguments {
            let long = argument.get_long().map(|name| format!("--{name}"));
            let value = argument.get_value_names().and_then(<[_]>::first).map(ToString::to_string);
            let shown = [long, value].into_iter().flatten().collect::<Vec<_>>().join(" ");
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            writeln!(out, ".TP\n\\fB{}\\fR\n{help}", shown.replace('-', "\\-"))?;
        }
    }
    man.render_extra_section(out)?;
    man.render_version_section(out)
}
