//! Progress on a terminal: a bar with rate and time left, or a plain line every few seconds where stderr is not a terminal.

use crate::artifact::{Progress, grouped};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Seconds between plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

static STOP: AtomicBool = AtomicBool::new(false);
static NOTHING_TO_SAVE: AtomicBool = AtomicBool::new(false);
static KEEPS_NOTHING: AtomicBool = AtomicBool::new(false);
static HANDLER: OnceLock<()> = OnceLock::new();

/// Progress for people. The first Ctrl-C asks the stage to save and stop, the second one kills.
pub struct Terminal {
    bar: Option<ProgressBar>,
    plain: bool,
    what: String,
    unit: String,
    total: u64,
    done: u64,
    /// What was done before it began, of which the rate knows nothing.
    before: u64,
    figure: String,
    began: Instant,
    said: Instant,
}

impl Terminal {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        HANDLER.get_or_init(|| {
            let _ = ctrlc::set_handler(|| {
                if STOP.swap(true, Ordering::SeqCst) {
                    std::process::exit(130);
                }
                if !NOTHING_TO_SAVE.load(Ordering::SeqCst) {
                    let how = if KEEPS_NOTHING.load(Ordering::SeqCst) { "stopping" } else { "stopping after saving" };
                    tell!("\n{how}; press Ctrl-C again to stop at once");
                }
            });
        });
        let now = Instant::now();
        Terminal {
            bar: None,
            plain: !std::io::stderr().is_terminal(),
            what: String::new(),
            unit: String::new(),
            total: 0,
            done: 0,
            before: 0,
            figure: String::new(),
            began: now,
            said: now,
        }
    }

    /// What runs from now on is not saved when it is stopped, and Ctrl-C does not say that it is.
    pub fn keeps_nothing() {
        KEEPS_NOTHING.store(true, Ordering::SeqCst);
    }

    /// All stages are done: from now on Ctrl-C ends without a word about saving.
    pub fn nothing_to_save() {
        NOTHING_TO_SAVE.store(true, Ordering::SeqCst);
    }

    fn line(&self) {
        let seconds = self.began.elapsed().as_secs_f64().max(1e-9);
        let share = 100.0 * self.done as f64 / self.total.max(1) as f64;
        let figure = if self.figure.is_empty() { String::new() } else { format!("  {}", self.figure) };
        tell!(
            "{}: {share:.0} % of {} {}, {} {}/s{figure}",
            self.what,
            grouped(self.total),
            self.unit,
            rate((self.done - self.before) as f64 / seconds),
            self.unit
        );
    }
}

/// Whole above 10, else with a decimal.
fn rate(per_second: f64) -> String {
    if per_second < 10.0 { format!("{per_second:.1}") } else { grouped(per_second as u64) }
}

impl Progress for Terminal {
    fn begin(&mut self, what: &str, total: u64, unit: &str) {
        (self.what, self.unit, self.total, self.done, self.before) = (what.into(), unit.into(), total, 0, 0);
        self.figure.clear();
        self.began = Instant::now();
        self.said = self.began;
        if !self.plain {
            let style = "{msg} {wide_bar} {percent:>3} %  {human_pos} of {human_len} {prefix}  {rate}/s  {eta} left";
            let style = ProgressStyle::with_template(style).expect("the template is well formed");
            // Its own rate has four decimals.
            let style = style.with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = out.write_str(&rate(state.per_sec()));
            });
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            // Named before it is drawn.
            self.bar = Some(bar.with_style(style).with_prefix(unit.to_string()).with_message(what.to_string()));
        }
    }

    fn advance(&mut self, n: u64) {
        self.done += n;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        } else if self.done < self.total && self.said.elapsed() > LINE_EVERY {
            self.said = Instant::now();
            self.line();
        }
    }

    fn resume(&mut self, n: u64) {
        (self.done, self.before) = (self.done + n, self.before + n);
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
            bar.reset_eta();
        }
    }

    fn figure(&mut self, text: &str) {
        self.figure = text.into();
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} ({text})", self.what));
        }
    }

    fn note(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| tell!("{line}")),
            None => tell!("{line}"),
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.line();
    }

    fn interrupted(&self) -> bool {
        STOP.load(Ordering::SeqCst)
    }
}
