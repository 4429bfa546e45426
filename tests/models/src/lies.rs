//! What a device makes up.

/// Bytes that decide where a device says something else than is so. Each thing it says takes at
/// least one of them: 0 leaves it alone. Once all are used up, the device is honest again.
#[derive(Clone, Debug, Default)]
pub struct Lies {
    bytes: Vec<u8>,
    at: usize,
}

impl Lies {
    /// Those that follow from `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), at: 0 }
    }

    fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        byte
    }

    /// Changes up to three of the bytes the device says: for each it takes where and what.
    pub(crate) fn change(&mut self, said: &mut [u8]) {
        for _ in 0..self.byte() & 3 {
            let at = usize::from(u16::from_le_bytes([self.byte(), self.byte()]));
            let value = self.byte();
            if let Some(byte) = at.checked_rem(said.len()).and_then(|at| said.get_mut(at)) {
                *byte = value;
            }
        }
    }

    /// What the device says instead of `number`.
    pub(crate) fn number(&mut self, number: u64) -> u64 {
        match self.byte() {
            1 => u64::MAX,
            2 => 0,
            3 => number ^ 1 << (self.byte() & 63),
            4 => number.wrapping_add(u64::from(self.byte())),
            5 => number.wrapping_sub(u64::from(self.byte())),
            6 => u64::from_le_bytes([(); 8].map(|()| self.byte())),
            _ => number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_lies_is_honest() {
        let mut lies = Lies::new(&[]);
        let mut said = [1, 2, 3];
        lies.change(&mut said);
        assert_eq!((said, lies.number(77)), ([1, 2, 3], 77));
    }

    #[test]
    fn each_lie_is_told_once() {
        let mut lies = Lies::new(&[2, 4, 0, 9, 1, 0, 8, 1, 6, 1, 2]);
        let mut said = [0; 3];
        lies.change(&mut said);
        assert_eq!(said, [0, 8, 0], "the place is taken from what there is");
        assert_eq!([lies.number(5), lies.number(5), lies.number(5)], [u64::MAX, 0x0201, 5]);
    }
}
