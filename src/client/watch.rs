//! `compute_ctl status --watch`: shows the compute again and again, until Ctrl-C.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// Where the pictures go.
#[derive(Debug)]
pub(super) enum Screen {
    /// Each replaces the one before it; columns and rows.
    Terminal(usize, usize),
    /// Each follows the one before it, after a line that separates them.
    File,
}

/// Width of the text if the output is not a terminal.
const USUAL_WIDTH: usize = 100;

impl Screen {
    /// The present size of the terminal, if there is one.
    pub(super) fn of_stdout() -> Self {
        match terminal_size::terminal_size() {
            Some((columns, rows)) if std::io::stdout().is_terminal() => {
                Self::Terminal(columns.0.into(), rows.0.into())
            }
            _ => Self::File,
        }
    }

    /// Columns that a line may use.
    pub(super) const fn width(&self) -> usize {
        match self {
            Self::Terminal(columns, _) => *columns,
            Self::File => USUAL_WIDTH,
        }
    }

    /// The bytes that show a picture in place of the one before. What does not fit is cut off.
    fn picture(&self, text: &str, is_first: bool) -> String {
        match self {
            Self::Terminal(columns, rows) => {
                // Cleared at the first time only, so that it does not flicker.
                let mut picture = if is_first { "\x1b[2J\x1b[H" } else { "\x1b[H" }.to_owned();
                for line in text.lines().take(rows.saturating_sub(1)) {
                    picture.extend(line.chars().take(*columns));
                    picture.push_str("\x1b[K\n");
                }
                picture.push_str("\x1b[J");
                picture
            }
            Self::File if is_first => format!("{}\n", text.trim_end()),
            Self::File => format!("---\n{}\n", text.trim_end()),
        }
    }
}

/// Shows what `look` gives, each `interval`, until Ctrl-C.
///
/// # Errors
/// Ctrl-C cannot be waited for.
pub(super) async fn watch(
    interval: Duration,
    look: impl AsyncFn(usize) -> String,
) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut is_first = true;
    loop {
        let screen = Screen::of_stdout();
        let text = tokio::select! {
            text = look(screen.width()) => text,
            _ = interrupt.recv() => return Ok(()),
        };
        let mut out = std::io::stdout();
        let picture = screen.picture(&text, is_first);
        // A reader that has closed the pipe is not interested any more.
        if out.write_all(picture.as_bytes()).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
        is_first = false;
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures() {
        let terminal = Screen::Terminal(4, 3);
        assert_eq!(
            terminal.picture("abcdef\nüüüüü\nx\n", true),
            "\x1b[2J\x1b[Habcd\x1b[K\nüüüü\x1b[K\n\x1b[J"
        );
        assert_eq!(terminal.picture("a", false), "\x1b[Ha\x1b[K\n\x1b[J");
        assert_eq!(Screen::File.picture("a\n\n", true), "a\n");
        assert_eq!(Screen::File.picture("a", false), "---\na\n");
    }
}
