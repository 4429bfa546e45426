use super::seq::Seq;

/// Acknowledgements of the same byte that mean a loss (RFC 5681 §3.2).
const DUPLICATES: u32 = 3;
/// The first window (RFC 6928 §2): so many segments, but not much more than so many bytes.
const INITIAL_SEGMENTS: usize = 10;
const INITIAL_BYTES: usize = 14_600;
const WINDOW_MAX: usize = 1 << 30;

/// What an acknowledgement that brings nothing new means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Duplicate {
    /// Perhaps a packet was overtaken.
    Suspicion,
    /// A segment is lost: it is to be sent again.
    Loss,
    /// One more segment has arrived behind what is lost.
    Progress,
}

/// How much may be under way at once: NewReno (RFC 5681, RFC 6582), with limited transmit
/// (RFC 3042).
#[derive(Clone, Copy, Debug)]
pub struct Congestion {
    window: usize,
    threshold: usize,
    mss: usize,
    duplicates: u32,
    /// While what was lost is sent again, the end of what was sent by then.
    recovery: Option<Seq>,
    /// No loss is seen in duplicates of what is acknowledged up to here: they may come of what was
    /// sent twice.
    guard: Option<Seq>,
}

impl Congestion {
    /// For segments of up to `mss` bytes.
    pub fn new(mss: usize) -> Self {
        Self {
            window: initial(mss),
            threshold: WINDOW_MAX,
            mss,
            duplicates: 0,
            recovery: None,
            guard: None,
        }
    }

    /// Bytes that may be under way.
    #[inline]
    pub fn window(&self) -> usize {
        // One more segment for each of the first duplicates.
        let limited = if self.recovery.is_none() { self.duplicates as usize * self.mss } else { 0 };
        self.window + limited
    }

    /// Until where what was lost is being sent again.
    #[inline]
    pub fn recovery(&self) -> Option<Seq> {
        self.recovery
    }

    /// `count` new bytes are acknowledged, up to `ack`, of `flight` that were under way. Whether
    /// the next segment is lost too.
    pub fn acknowledged(&mut self, ack: Seq, count: usize, flight: usize) -> bool {
        self.duplicates = 0;
        if self.guard.is_some_and(|guard| !ack.is_before(guard)) {
            self.guard = None;
        }
        let Some(end) = self.recovery else {
            self.grow(count, flight);
            return false;
        };
        if !ack.is_before(end) {
            self.recovery = None;
            let left = flight.saturating_sub(count).max(self.mss);
            self.window = self.threshold.min(left + self.mss);
            return false;
        }
        // A partial acknowledgement (RFC 6582 §3.2).
        self.window = self.window.saturating_sub(count).max(self.mss);
        if count >= self.mss {
            self.window += self.mss;
        }
        true
    }

    /// The window grows only where it is the limit (RFC 9293 leaves the rest to RFC 5681 §3.1, and
    /// RFC 7661 says why).
    fn grow(&mut self, count: usize, flight: usize) {
        if flight * 2 < self.window {
            return;
        }
        let more = if self.window < self.threshold {
            count
        } else {
            (self.mss * count / self.window).max(1)
        };
        self.window = (self.window + more).min(WINDOW_MAX);
    }

    /// The same byte is acknowledged again; `ack` is that, and `sent` the end of what was sent, of
    /// which `flight` bytes are under way.
    pub fn duplicate(&mut self, sent: Seq, flight: usize) -> Duplicate {
        if self.recovery.is_some() {
            self.window = (self.window + self.mss).min(WINDOW_MAX);
            return Duplicate::Progress;
        }
        if self.guard.is_some() {
            return Duplicate::Suspicion;
        }
        self.duplicates += 1;
        if self.duplicates < DUPLICATES {
            return Duplicate::Suspicion;
        }
        self.duplicates = 0;
        self.threshold = self.after_loss(flight);
        self.window = self.threshold + DUPLICATES as usize * self.mss;
        self.recovery = Some(sent);
        Duplicate::Loss
    }

    /// Nothing was acknowledged in time; `sent` is the end of what was sent, of which `flight`
    /// bytes are under way (RFC 5681 §3.1).
    pub fn timed_out(&mut self, sent: Seq, flight: usize) {
        // Once for what was sent: that it is sent again without an answer is no further loss.
        if self.guard != Some(sent) {
            self.threshold = self.after_loss(flight);
        }
        self.window = self.mss;
        self.duplicates = 0;
        self.recovery = None;
        self.guard = Some(sent);
    }

    /// Nothing was sent for longer than the time-out (RFC 5681 §4.1).
    pub fn restart(&mut self) {
        self.window = self.window.min(initial(self.mss));
    }

    fn after_loss(&self, flight: usize) -> usize {
        (flight / 2).max(2 * self.mss)
    }
}

fn initial(mss: usize) -> usize {
    (INITIAL_SEGMENTS * mss).min(INITIAL_BYTES.max(2 * mss))
}
