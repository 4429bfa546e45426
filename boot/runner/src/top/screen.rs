//! The view in a terminal.

use std::io::{self, Write as _, stdout};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute, queue};

use super::sample::Sample;
use super::table::Sorting;
use super::view::{Section, tables};
use crate::rpc::Client;

/// How long a key may wait for its effect.
const TICK: Duration = Duration::from_millis(50);
/// What keys do, at the length that there is room for.
const HELPS: [&str; 3] = [
    "q: quit   1-4 or Tab: section   s: sort by the next column   r: reverse   \
     arrows, Page Up and Down: scroll",
    "q: quit  1-4, Tab: section  s: sort  r: reverse  arrows: scroll",
    "q: quit  1-4  s: sort  r: reverse",
];
/// Lines above the rows: sections, keys, heading.
const HEAD: usize = 3;

/// Whether a signal asks for the end.
static ENDED: AtomicBool = AtomicBool::new(false);

/// The terminal while it is ours. Dropping it gives it back as it was.
struct Screen;

impl Screen {
    fn take() -> anyhow::Result<Self> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
        }));
        terminal::enable_raw_mode().context("this terminal cannot be used: try --batch 1")?;
        let screen = Self;
        execute!(stdout(), EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    // Nothing else can be done where that fails.
    let _ = execute!(stdout(), cursor::Show, LeaveAlternateScreen);
    let _ = terminal::disable_raw_mode();
}

/// Shows the machine until a key, a signal or the machine ends it.
///
/// # Errors
/// The machine went away, or the terminal cannot be used.
pub fn run(client: Client, interval: Duration) -> anyhow::Result<()> {
    let address = client.address().to_string();
    ctrlc::set_handler(|| ENDED.store(true, Ordering::Release))
        .context("cannot watch for signals")?;
    let samples = follow(client, interval);
    let screen = Screen::take()?;
    let ended = View::new(address).show(&samples);
    drop(screen);
    ended
}

/// Looks at the machine again and again, apart from the keys: a slow answer holds up none of them.
fn follow(mut client: Client, interval: Duration) -> Receiver<anyhow::Result<Sample>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        loop {
            let sample = Sample::take(&mut client);
            let failed = sample.is_err();
            if sender.send(sample).is_err() || failed {
                return;
            }
            thread::sleep(interval);
        }
    });
    receiver
}

/// What a key has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Nothing,
    Redraw,
    Quit,
}

/// What is looked at, and how.
#[derive(Debug)]
struct View {
    address: String,
    section: usize,
    /// Of each section.
    sorting: [Sorting; 4],
    /// Rows above the first that is shown.
    above: usize,
    /// Rows that there is room for.
    room: usize,
    samples: Option<(Sample, Sample)>,
}

impl View {
    fn new(address: String) -> Self {
        Self { address, section: 0, sorting: Default::default(), above: 0, room: 1, samples: None }
    }

    fn show(&mut self, samples: &Receiver<anyhow::Result<Sample>>) -> anyhow::Result<()> {
        let mut first = None;
        self.draw()?;
        while !ENDED.load(Ordering::Acquire) {
            let mut redraw = false;
            match samples.recv_timeout(TICK) {
                Ok(sample) => {
                    let now = sample?;
                    match self.samples.take().map(|(_, before)| before).or_else(|| first.take()) {
                        Some(before) => self.samples = Some((before, now)),
                        None => first = Some(now),
                    }
                    redraw = true;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            while event::poll(Duration::ZERO)? {
                match self.on_event(&event::read()?) {
                    Effect::Quit => return Ok(()),
                    effect => redraw |= effect == Effect::Redraw,
                }
            }
            if redraw {
                self.draw()?;
            }
        }
        Ok(())
    }

    fn on_event(&mut self, event: &Event) -> Effect {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.on_key(key),
            Event::Resize(..) => Effect::Redraw,
            _ => Effect::Nothing,
        }
    }

    fn on_key(&mut self, key: &KeyEvent) -> Effect {
        let sections = Section::ALL.len();
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Effect::Quit;
            }
            KeyCode::Char('q') | KeyCode::Esc => return Effect::Quit,
            KeyCode::Tab | KeyCode::Right => self.turn_to((self.section + 1) % sections),
            KeyCode::BackTab | KeyCode::Left => {
                self.turn_to((self.section + sections - 1) % sections);
            }
            KeyCode::Char(digit @ '1'..='4') => self.turn_to(digit as usize - '1' as usize),
            KeyCode::Char('s') => self.sort_by_next(),
            KeyCode::Char('r') => self.sorting[self.section].reversed ^= true,
            KeyCode::Down => self.above += 1,
            KeyCode::Up => self.above = self.above.saturating_sub(1),
            KeyCode::PageDown => self.above += self.room.max(1),
            KeyCode::PageUp => self.above = self.above.saturating_sub(self.room.max(1)),
            KeyCode::Home => self.above = 0,
            // The next frame knows where that is.
            KeyCode::End => self.above = usize::MAX - self.room,
            _ => return Effect::Nothing,
        }
        Effect::Redraw
    }

    fn turn_to(&mut self, section: usize) {
        (self.section, self.above) = (section, 0);
    }

    fn sort_by_next(&mut self) {
        let columns = self
            .samples
            .as_ref()
            .map(|(before, now)| tables(before, now)[self.section].columns.len());
        let sorting = &mut self.sorting[self.section];
        let next = sorting.column.map_or(0, |column| column + 1);
        sorting.column = (next < columns.unwrap_or(0)).then_some(next);
    }

    /// The lines of the whole screen, of which the one with that number is a heading.
    fn frame(&mut self, width: usize, height: usize) -> (Vec<String>, usize) {
        let titles =
            (1..).zip(Section::ALL).map(|(number, section)| match number == self.section + 1 {
                true => format!("[{number} {}]", section.title()),
                false => format!(" {number} {} ", section.title()),
            });
        let cut = |line: String| line.chars().take(width).collect::<String>();
        let titles = titles.collect::<Vec<_>>().join(" ");
        let mut lines = vec![cut(format!("{titles}  Basalt at {}", self.address))];
        self.room = height.saturating_sub(HEAD);
        let Some((before, now)) = &self.samples else {
            lines.extend([cut(help(width)), cut("looking...".to_owned())]);
            lines.truncate(height);
            return (lines, HEAD - 1);
        };
        let sorting = self.sorting[self.section];
        let mut tables = tables(before, now);
        let table = &mut tables[self.section];
        table.sort(sorting);
        let body = table.lines(width, sorting);
        let (head, rows) = body.split_at(1.min(body.len()));
        self.above = self.above.min(rows.len().saturating_sub(self.room));
        lines.push(cut(keys(width, self.above, self.room, rows.len())));
        lines.extend(head.iter().cloned());
        if rows.is_empty() {
            lines.push(cut(Section::ALL[self.section].nothing().to_owned()));
        }
        lines.extend(rows.iter().skip(self.above).take(self.room).cloned());
        lines.truncate(height);
        (lines, HEAD - 1)
    }

    fn draw(&mut self) -> io::Result<()> {
        let (width, height) = terminal::size()?;
        let (lines, heading) = self.frame(width.into(), height.into());
        let mut out = stdout().lock();
        queue!(out, cursor::MoveTo(0, 0))?;
        for (row, line) in lines.iter().enumerate() {
            let look = if row == heading { Attribute::Reverse } else { Attribute::Reset };
            queue!(out, cursor::MoveTo(0, row as u16), SetAttribute(look), Print(line))?;
            queue!(out, SetAttribute(Attribute::Reset), Clear(ClearType::UntilNewLine))?;
        }
        queue!(out, Clear(ClearType::FromCursorDown))?;
        out.flush()
    }
}

/// The keys, in at most `width` letters.
fn help(width: usize) -> String {
    let fits = |help: &&&str| help.len() <= width;
    HELPS.iter().find(fits).or(HELPS.last()).copied().unwrap_or_default().to_owned()
}

/// The keys, and which of so many rows are shown if those are not all.
fn keys(width: usize, above: usize, room: usize, rows: usize) -> String {
    if rows <= room {
        return help(width);
    }
    let shown = format!("  rows {}-{} of {rows}", above + 1, above + room);
    let left = width.saturating_sub(shown.len());
    format!("{:left$}{shown}", help(left))
}

#[cfg(test)]
mod tests;
