/// The processor's own counter: the finest and cheapest measure of an interval.
pub trait Ticks: Copy + 'static {
    /// The counter now. Reading it costs some instructions, and no call into a system.
    fn ticks(&self) -> u64;

    /// Ticks per second, as well as it is known by now.
    fn hz(&self) -> u64;
}
