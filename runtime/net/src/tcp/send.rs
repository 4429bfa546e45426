use core::time::Duration;

use basalt_env::{DmaSlice, Instant};

use super::congestion::{Congestion, Duplicate};
use super::header::{Blocks, Header};
use super::plan::{Plan, Reason};
use super::queue::{Parts, Queue};
use super::rtt::Rtt;
use super::sacked::Sacked;
use super::seq::{Seq, Span};

/// How long a peer that answers may leave the same byte unacknowledged.
const STUCK_MAX: Duration = Duration::from_secs(100);

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Timer {
    /// Nothing.
    Idle,
    /// An acknowledgement, until then.
    Resend(Instant),
    /// The peer's window; it is asked for then.
    Probe(Instant),
}

/// The sending half of a connection.
///
/// ```text
///        una              next            una + queue        (FIN)
///  ------+----------------+----------------+----------------+
///  acked | sent           | to be sent     |
/// ```
#[derive(Debug)]
pub struct Sender {
    /// The first byte that is not acknowledged.
    una: Seq,
    /// The next to be sent: behind `max`, unless all is sent again after a time-out.
    next: Seq,
    /// Behind the last that was ever sent.
    max: Seq,
    queue: Queue,
    /// No more bytes will be queued.
    finishing: bool,
    fin_acked: bool,
    /// What the peer takes from `una` on, bytes, and the most it has ever taken.
    window: usize,
    window_max: usize,
    /// The segment that the window is from (RFC 9293 §3.10.7.4).
    window_seq: Seq,
    window_ack: Seq,
    shift: u8,
    mss: usize,
    congestion: Congestion,
    rtt: Rtt,
    /// What round trip is measured: by the acknowledgement of that, sent then.
    timed: Option<(Seq, Instant)>,
    timer: Timer,
    sacked: Sacked,
    /// Holes before this were filled since the loss.
    filled: Seq,
    /// Segments that may be sent to fill more.
    fills: u32,
    probe: bool,
    sent_at: Instant,
    /// When the first unacknowledged byte became that.
    progress_at: Instant,
    /// Segments sent again.
    resent: u64,
}

impl Sender {
    /// Its stream begins behind `iss`; at most `capacity` bytes are queued.
    pub fn new(iss: Seq, capacity: usize, now: Instant) -> Self {
        Self {
            una: iss,
            next: iss,
            max: iss,
            queue: Queue::new(capacity),
            finishing: false,
            fin_acked: false,
            window: 0,
            window_max: 0,
            window_seq: iss,
            window_ack: iss,
            shift: 0,
            mss: 0,
            congestion: Congestion::new(1),
            rtt: Rtt::new(),
            timed: None,
            timer: Timer::Idle,
            sacked: Sacked::new(),
            filled: iss,
            fills: 0,
            probe: false,
            sent_at: now,
            progress_at: now,
            resent: 0,
        }
    }

    /// Segments sent again.
    pub fn resent(&self) -> u64 {
        self.resent
    }

    /// The first byte that is not acknowledged.
    pub fn una(&self) -> Seq {
        self.una
    }

    /// Behind the last that was ever sent.
    pub fn max(&self) -> Seq {
        self.max
    }

    /// Payload of a full segment, bytes.
    pub fn mss(&self) -> usize {
        self.mss
    }

    /// Most bytes that the peer ever offered to take.
    pub fn window_max(&self) -> usize {
        self.window_max
    }

    /// Whether the end of the stream was sent.
    pub fn fin_sent(&self) -> bool {
        self.finishing && (self.fin_acked || self.end().is_before(self.max))
    }

    /// Whether the peer has all, and knows that it is.
    pub fn is_finished(&self) -> bool {
        self.fin_acked
    }

    /// Queues bytes; gives how many there was room for.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        if self.finishing { 0 } else { self.queue.push(bytes) }
    }

    /// The same with bytes of `slice`, from `from` on, where they are.
    pub fn write_shared(&mut self, slice: &DmaSlice, from: usize) -> usize {
        if self.finishing { 0 } else { self.queue.push_shared(slice, from) }
    }

    /// Memory of the buffers that are kept for what is queued, bytes.
    pub fn held(&self) -> usize {
        self.queue.held()
    }

    /// Keeps no buffers any more; `false` if there is no memory to do without.
    pub fn copy_shared(&mut self) -> bool {
        self.queue.copy_shared()
    }

    /// Nothing more will be queued.
    pub fn finish(&mut self) {
        self.finishing = true;
    }

    /// Bytes of the queue, as a [`Plan`] names them.
    pub fn parts(&self, offset: usize, len: usize) -> Parts<'_> {
        self.queue.parts(offset, len)
    }

    /// Gives all memory back: nothing will be sent.
    pub fn clear(&mut self) {
        self.queue.clear();
        self.timer = Timer::Idle;
    }

    /// The SYN was sent.
    pub fn syn_sent(&mut self, now: Instant) {
        if self.max == self.una {
            self.max = self.una + 1;
            self.next = self.max;
            self.timed = Some((self.max, now));
        } else {
            self.resent += 1;
        }
        self.timer = Timer::Resend(now + self.rtt.timeout());
        self.sent_at = now;
    }

    /// `header` acknowledges the SYN: the peer takes `mss` bytes, and shifts windows by `shift`.
    pub fn open(&mut self, header: &Header, window: usize, mss: usize, shift: u8, now: Instant) {
        self.una = header.ack;
        self.next = header.ack;
        self.filled = header.ack;
        self.shift = shift;
        self.mss = mss.max(1);
        self.congestion = Congestion::new(self.mss);
        self.measure(now);
        self.rtt.answered();
        self.timer = Timer::Idle;
        self.progress_at = now;
        self.set_window(header, window);
    }

    /// As a header has the window, bytes.
    pub fn scaled(&self, header: &Header) -> usize {
        usize::from(header.window) << self.shift
    }

    fn set_window(&mut self, header: &Header, window: usize) {
        self.window = window;
        self.window_max = self.window_max.max(window);
        self.window_seq = header.seq;
        self.window_ack = header.ack;
        if window > 0 && matches!(self.timer, Timer::Probe(_)) {
            self.rtt.answered();
            self.timer = Timer::Idle;
        }
    }

    fn measure(&mut self, now: Instant) {
        if let Some((end, at)) = self.timed
            && !self.una.is_before(end)
        {
            self.rtt.sample(now.since(at));
            self.timed = None;
        }
    }

    /// The seq of the FIN, if there is one.
    fn end(&self) -> Seq {
        self.una + self.queue.len()
    }

    fn flight(&self) -> usize {
        self.next.since(self.una)
    }

    /// Takes the acknowledgement, window and blocks of a segment that is in order;
    /// `only_acknowledges` if it does nothing else. Its acknowledgement is of something sent.
    pub fn acknowledge(&mut self, header: &Header, only_acknowledges: Only, now: Instant) {
        let news = !header.blocks.is_empty() && self.note_blocks(&header.blocks);
        let window = self.scaled(header);
        let ack = header.ack;
        if self.una.is_before(ack) {
            self.advance(ack, now);
        } else if ack == self.una
            && only_acknowledges == Only::Acknowledges
            && self.una != self.max
            && (window == self.window || news)
        {
            self.duplicate(now);
        }
        let is_newer = self.window_seq.is_before(header.seq)
            || self.window_seq == header.seq && !ack.is_before(self.window_ack);
        if is_newer && !ack.is_before(self.una) {
            self.set_window(header, window);
        }
    }

    /// Whether anything of the blocks is new.
    #[cold]
    fn note_blocks(&mut self, blocks: &Blocks) -> bool {
        let (una, max) = (self.una, self.max);
        let is_sent = |span: &Span| {
            una.is_before(span.start) && span.start.is_before(span.end) && !max.is_before(span.end)
        };
        let sacked = &mut self.sacked;
        blocks.iter().filter(is_sent).fold(false, |news, span| sacked.add(span) | news)
    }

    fn advance(&mut self, ack: Seq, now: Instant) {
        let count = ack.since(self.una);
        let flight = self.flight();
        self.fin_acked |= self.finishing && count > self.queue.len();
        self.queue.drop_front(count);
        self.una = ack;
        self.next = self.next.later(ack);
        self.filled = self.filled.later(ack);
        self.measure(now);
        self.rtt.answered();
        self.sacked.forget_before(ack);
        self.progress_at = now;
        if self.congestion.acknowledged(ack, count, flight) {
            self.fills += 1;
        } else if self.congestion.recovery().is_none() {
            self.fills = 0;
        }
        self.timer = if self.una == self.max {
            Timer::Idle
        } else {
            Timer::Resend(now + self.rtt.timeout())
        };
    }

    #[cold]
    fn duplicate(&mut self, now: Instant) {
        let flight = self.flight();
        match self.congestion.duplicate(self.max, flight) {
            Duplicate::Suspicion => {}
            Duplicate::Loss => {
                self.filled = self.una;
                self.fills = 1;
                self.timed = None;
                self.timer = Timer::Resend(now + self.rtt.timeout());
            }
            Duplicate::Progress if self.hole().is_none() => self.fills = 1,
            Duplicate::Progress => self.fills += 1,
        }
    }

    /// What is missing at the peer, as far as that is known and was not sent again.
    fn hole(&self) -> Option<Span> {
        self.congestion.recovery()?;
        if self.sacked.is_empty() {
            let first = Span::of(self.una, self.mss.min(self.max.since(self.una)));
            return (self.filled == self.una).then_some(first);
        }
        self.sacked.hole(self.filled)
    }

    /// What to send now, at most `most` bytes.
    pub fn plan(&self, most: usize) -> Option<Plan> {
        if self.fills > 0
            && let Some(hole) = self.hole()
        {
            return Some(self.fill(hole));
        }
        let sent = self.flight();
        let left = self.queue.len().saturating_sub(sent);
        let fin = self.finishing && !self.fin_acked && !self.end().is_before(self.next);
        if left == 0 && !fin {
            return None;
        }
        let room = self.window.min(self.congestion.window()).saturating_sub(sent);
        let mut len = left.min(room).min(most);
        if len < left && len > self.mss {
            len -= len % self.mss;
        }
        let is_last = len == left;
        // RFC 9293 §3.8.6.2.1, without Nagle's algorithm: no small segments for small windows.
        let is_worth_it = is_last || len >= self.mss || len * 2 >= self.window_max || sent == 0;
        if (len == 0 || !is_worth_it) && !(is_last && fin) {
            return None;
        }
        let fin = fin && is_last;
        Some(Plan { seq: self.next, offset: sent, len, is_last, fin, reason: Reason::Next })
    }

    #[cold]
    fn fill(&self, hole: Span) -> Plan {
        let offset = hole.start.since(self.una);
        let left = self.queue.len().saturating_sub(offset);
        let len = hole.len().min(self.mss).min(left);
        let is_last = len == left;
        let fin = is_last && self.fin_sent();
        Plan { seq: hole.start, offset, len, is_last, fin, reason: Reason::Hole }
    }

    /// What was planned is sent.
    pub fn sent(&mut self, plan: &Plan, now: Instant) {
        self.sent_at = now;
        let end = plan.end();
        match plan.reason {
            Reason::Hole => {
                self.filled = end;
                self.fills -= 1;
                self.resent += 1;
            }
            Reason::Next => {
                if self.una == self.max {
                    self.progress_at = now;
                }
                // Nothing is measured while anything is sent again.
                if self.timed.is_none() {
                    if plan.seq.is_before(self.max) {
                        self.resent += plan.len.div_ceil(self.mss).max(1) as u64;
                    } else {
                        self.timed = Some((end, now));
                    }
                }
                self.next = end;
                self.max = self.max.later(end);
            }
        }
        if !matches!(self.timer, Timer::Resend(_)) {
            self.timer = Timer::Resend(now + self.rtt.timeout());
        }
    }

    /// Before anything is planned: after a rest, little is sent at first.
    pub fn refresh(&mut self, now: Instant) {
        if self.una == self.max && now.since(self.sent_at) > self.rtt.timeout() {
            self.congestion.restart();
        }
    }

    /// Nothing can be sent now. If nothing is under way either, the peer's window is asked for.
    pub fn settle(&mut self, now: Instant) {
        if self.timer == Timer::Idle && self.queue.len() > 0 {
            self.timer = Timer::Probe(now + self.rtt.timeout());
        }
    }

    /// Asks the peer for its window, and whether it is there.
    pub fn probe(&mut self) {
        self.probe = true;
    }

    /// Whether the peer is to be asked.
    pub fn is_probing(&self) -> bool {
        self.probe
    }

    /// The peer was asked.
    pub fn probed(&mut self) {
        self.probe = false;
    }

    /// How often what was sent last was not answered in time.
    pub fn retries(&self) -> u32 {
        self.rtt.backoff()
    }

    /// When [`Self::tick`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match self.timer {
            Timer::Idle => None,
            Timer::Resend(at) | Timer::Probe(at) => Some(at),
        }
    }

    /// Looks at the timer; whether it went off.
    pub fn tick(&mut self, now: Instant) -> Ticked {
        match self.timer {
            Timer::Probe(at) if now >= at => {
                self.probe = true;
                self.rtt.back_off();
                self.timer = Timer::Probe(now + self.rtt.timeout());
                Ticked::Due
            }
            Timer::Resend(at) if now >= at => self.time_out(now),
            _ => Ticked::Nothing,
        }
    }

    #[cold]
    fn time_out(&mut self, now: Instant) -> Ticked {
        self.rtt.back_off();
        self.timer = Timer::Resend(now + self.rtt.timeout());
        self.timed = None;
        if self.mss == 0 {
            return Ticked::Due; // The SYN.
        }
        if self.window == 0 {
            // RFC 9293 §3.8.6.1: for as long as it answers.
            self.probe = true;
            self.progress_at = now;
        } else if now.since(self.progress_at) >= STUCK_MAX {
            return Ticked::Stuck;
        }
        self.congestion.timed_out(self.max, self.flight());
        self.sacked.clear();
        self.fills = 0;
        self.next = self.una;
        Ticked::Due
    }
}

/// Whether a segment brings anything besides its acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Only {
    /// Nothing.
    Acknowledges,
    /// It does.
    More,
}

/// What a look at the timer came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ticked {
    /// Nothing.
    Nothing,
    /// Something is to be sent.
    Due,
    /// The peer will not take the next byte.
    Stuck,
}
