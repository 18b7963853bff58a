//! Progress on a terminal: a bar with rate and time left, or a plain line every few seconds where stderr is not a terminal.

use crate::artifact::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Seconds between plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

static STOP: AtomicBool = AtomicBool::new(false);
static HANDLER: OnceLock<()> = OnceLock::new();

/// Progress for people. The first Ctrl-C asks the stage to save and stop, the second one kills.
pub struct Terminal {
    bar: Option<ProgressBar>,
    plain: bool,
    what: String,
    unit: String,
    total: u64,
    done: u64,
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
                tell!("\nstopping after saving; press Ctrl-C again to stop at once");
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
            figure: String::new(),
            began: now,
            said: now,
        }
    }

    fn line(&self) {
        let seconds = self.began.elapsed().as_secs_f64().max(1e-9);
        let share = 100.0 * self.done as f64 / self.total.max(1) as f64;
        let figure = if self.figure.is_empty() { String::new() } else { format!("  {}", self.figure) };
        tell!("{}: {share:.0} % of {} {}, {} {}/s{figure}", self.what, self.total, self.unit, rate(self.done as f64 / seconds), self.unit);
    }
}

/// Whole above 10, else with a decimal.
fn rate(per_second: f64) -> String {
    if per_second < 10.0 { format!("{per_second:.1}") } else { format!("{per_second:.0}") }
}

impl Progress for Terminal {
    fn begin(&mut self, what: &str, total: u64, unit: &str) {
        (self.what, self.unit, self.total, self.done) = (what.into(), unit.into(), total, 0);
        self.figure.clear();
        self.began = Instant::now();
        self.said = self.began;
        if !self.plain {
            let style = "{msg} {bar:30} {percent:>3} %  {human_pos} of {human_len} {prefix}  {per_sec}  {eta} left";
            let style = ProgressStyle::with_template(style).expect("the template is well formed");
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_style(style);
            bar.set_prefix(unit.to_string());
            bar.set_message(what.to_string());
            self.bar = Some(bar);
        }
    }

    fn advance(&mut self, n: u64) {
        self.done += n;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        } else if self.said.elapsed() > LINE_EVERY {
            self.said = Instant::now();
            self.line();
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
