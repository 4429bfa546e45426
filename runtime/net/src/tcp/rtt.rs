use core::time::Duration;

/// Before anything was measured (RFC 6298 §2.1).
const INITIAL: Duration = Duration::from_secs(1);
/// What Linux takes as well: peers delay acknowledgements by up to 40 ms or more. RFC 6298 §2.4
/// asks for a second, for clocks of its time.
const MIN: Duration = Duration::from_millis(200);
/// RFC 6298 §2.5 allows 60 s or more.
const MAX: Duration = Duration::from_secs(60);
/// How exactly time is measured, at least.
const GRAIN: Duration = Duration::from_millis(1);

/// When to send again (RFC 6298).
#[derive(Clone, Copy, Debug)]
pub struct Rtt {
    /// Smoothed round-trip time and its variation, once there is a sample.
    smooth: Option<(Duration, Duration)>,
    /// How often the time-out was doubled since.
    backoff: u32,
}

impl Rtt {
    /// Nothing is known yet.
    pub const fn new() -> Self {
        Self { smooth: None, backoff: 0 }
    }

    /// Something that was sent once was acknowledged after so long.
    pub fn sample(&mut self, time: Duration) {
        self.smooth = Some(match self.smooth {
            None => (time, time / 2),
            Some((mean, variation)) => {
                let off = mean.abs_diff(time);
                ((mean * 7 + time) / 8, (variation * 3 + off) / 4)
            }
        });
    }

    /// The peer answers: the time-out is as measured again.
    pub fn answered(&mut self) {
        self.backoff = 0;
    }

    /// Nothing came in time: it is twice as long from now on.
    pub fn back_off(&mut self) {
        self.backoff += 1;
    }

    /// How often it was doubled.
    pub fn backoff(&self) -> u32 {
        self.backoff
    }

    /// The time-out.
    pub fn timeout(&self) -> Duration {
        let base = self.smooth.map_or(INITIAL, |(mean, variation)| mean + GRAIN.max(variation * 4));
        (base.clamp(MIN, MAX) * (1 << self.backoff.min(9))).min(MAX)
    }
}
