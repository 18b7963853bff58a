//! How a long stage tells its story and hears that it should stop. The command line shows a bar or plain lines; tests stay silent.

/// Told by a stage how far it is; asked by it whether the user wants to stop.
pub trait Progress {
    /// A stage or part of one begins: `total` of `unit` ("tokens", "rows", "steps") are to come.
    fn begin(&mut self, what: &str, total: u64, unit: &str);
    /// `n` more units are done.
    fn advance(&mut self, n: u64);
    /// `n` units were done before this call of the stage, which goes on from there: they are no part of its speed.
    fn resume(&mut self, n: u64) {
        self.advance(n);
    }
    /// A figure worth showing beside the bar, such as the current loss.
    fn figure(&mut self, text: &str);
    /// A line of the story that stays on the screen.
    fn note(&mut self, line: &str);
    /// The part that began last is done.
    fn end(&mut self);
    /// Whether Ctrl-C was pressed: the stage then saves and returns its own `Interrupted` error.
    fn interrupted(&self) -> bool;
}

/// Says nothing and never interrupts.
pub struct Silent;

impl Progress for Silent {
    fn begin(&mut self, _: &str, _: u64, _: &str) {}
    fn advance(&mut self, _: u64) {}
    fn figure(&mut self, _: &str) {}
    fn note(&mut self, _: &str) {}
    fn end(&mut self) {}
    fn interrupted(&self) -> bool {
        false
    }
}

/// Tells on what it is told, parts and lines of the story under a name: one of several of which the same is told.
pub struct Named<'a> {
    /// Empty: nothing is put before them.
    pub name: String,
    pub to: &'a mut dyn Progress,
}

impl Named<'_> {
    fn of(&self, line: &str) -> String {
        match &self.name[..] {
            "" => line.to_string(),
            name => format!("{name}: {line}"),
        }
    }
}

impl Progress for Named<'_> {
    fn begin(&mut self, what: &str, total: u64, unit: &str) {
        self.to.begin(&self.of(what), total, unit);
    }
    fn advance(&mut self, n: u64) {
        self.to.advance(n);
    }
    fn resume(&mut self, n: u64) {
        self.to.resume(n);
    }
    fn figure(&mut self, text: &str) {
        self.to.figure(text);
    }
    fn note(&mut self, line: &str) {
        self.to.note(&self.of(line));
    }
    fn end(&mut self) {
        self.to.end();
    }
    fn interrupted(&self) -> bool {
        self.to.interrupted()
    }
}
