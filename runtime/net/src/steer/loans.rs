//! Received frames that another core reads where the card has put them.

use basalt_ring::Full;
use basalt_ring::spsc::{self, Consumer, Producer};

/// Frames that one core has at once.
const LENT_MAX: usize = 128;
/// Frames that it may keep for longer than it takes to read them.
const KEPT_MAX: usize = 32;
/// Bytes of a frame below which it is sooner copied than lent and given back.
pub const LEND_MIN: usize = 512;

/// The card's core's end: frames that are with another core.
pub struct Lender<F> {
    back: Consumer<F>,
    out: usize,
}

/// The other core's end.
pub struct Borrower<F> {
    back: Producer<F>,
    held: usize,
}

/// Both ends, for one core.
pub fn loans<F>() -> (Lender<F>, Borrower<F>) {
    // As many entries as frames are lent: there is always room for one that goes back.
    let (to_lender, back) = spsc::channel(LENT_MAX);
    (Lender { back, out: 0 }, Borrower { back: to_lender, held: 0 })
}

impl<F> Lender<F> {
    /// Whether another may be lent.
    pub fn has_room(&self) -> bool {
        self.out < LENT_MAX
    }

    /// One is.
    pub fn lend(&mut self) {
        self.out += 1;
    }

    /// The next that has come back.
    pub fn take_back(&mut self) -> Option<F> {
        if self.out == 0 {
            return None;
        }
        let frame = self.back.pop()?;
        self.out -= 1;
        Some(frame)
    }
}

impl<F> Borrower<F> {
    /// One has come.
    pub fn borrow(&mut self) {
        self.held += 1;
    }

    /// Whether one may be kept until somebody wants what is in it.
    pub fn can_spare(&self) -> bool {
        self.held <= KEPT_MAX
    }

    /// Gives one back. It is only lost if the other core is gone.
    pub fn give_back(&mut self, frame: F) {
        self.held = self.held.saturating_sub(1);
        if let Err(Full(frame)) = self.back.push(frame) {
            drop(frame);
        }
    }
}
