use super::{DiskCard, QUEUES};

/// SIZE_MAX, SEG_MAX, BLK_SIZE, FLUSH, MQ, DISCARD, WRITE_ZEROES.
pub(super) const FEATURES: u64 = 1 << 1 | 1 << 2 | 1 << 6 | 1 << 9 | 1 << 12 | 1 << 13 | 1 << 14;

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;
const SECTOR: u64 = 512;

impl DiskCard {
    pub(super) fn blk_config(&self) -> Vec<u8> {
        let mut config = vec![0; 60];
        let Some(medium) = self.media.get(&0) else { return config };
        let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &(medium.bytes.len() as u64 / SECTOR).to_le_bytes());
        put(8, &self.limits.segment_len_max.to_le_bytes());
        put(12, &self.limits.segments_max.to_le_bytes());
        put(20, &(medium.block_size as u32).to_le_bytes());
        put(34, &QUEUES.to_le_bytes());
        put(36, &self.limits.sectors_max.to_le_bytes());
        put(40, &1_u32.to_le_bytes());
        put(48, &self.limits.sectors_max.to_le_bytes());
        put(52, &1_u32.to_le_bytes());
        config
    }

    /// What there is to be written for a request: data, then status.
    pub(super) fn blk(&mut self, request: &[u8], room: usize) -> Vec<u8> {
        let Some((header, data)) = request.split_at_checked(16) else {
            self.violate("a request without header".into());
            return vec![IO_ERROR];
        };
        let kind = u32::from_le_bytes(header[..4].try_into().unwrap_or_default());
        let sector = u64::from_le_bytes(header[8..].try_into().unwrap_or_default());
        let wanted = room.saturating_sub(1);
        let result = match kind {
            0 => self.blk_read(sector, wanted),
            1 => self.blk_write(sector, data),
            4 if wanted == 0 && data.is_empty() => Ok(Vec::new()),
            8 => Ok(self.blk_id(wanted)),
            11 | 13 => self.blk_zero(data),
            _ => Err(UNSUPPORTED),
        };
        let (mut bytes, status) = match result {
            Ok(bytes) => (bytes, OK),
            // Nobody knows what is in the data then.
            Err(status) => (vec![0xee; wanted], status),
        };
        bytes.push(status);
        bytes
    }

    fn blk_id(&self, wanted: usize) -> Vec<u8> {
        let serial = self.media.get(&0).map_or("", |medium| &medium.serial);
        let mut id = serial.as_bytes().to_vec();
        id.resize(wanted, 0);
        id
    }

    fn blk_range(&mut self, sector: u64, bytes: u64) -> Result<&mut [u8], u8> {
        let medium = self.media.get_mut(&0).ok_or(IO_ERROR)?;
        let block = medium.block_size as u64;
        let whole = (sector * SECTOR).is_multiple_of(block) && bytes.is_multiple_of(block);
        if !whole || bytes == 0 {
            self.violations.push(format!("{bytes} bytes at sector {sector} are no blocks"));
            return Err(IO_ERROR);
        }
        medium.range(sector * SECTOR / block, bytes / block).ok_or(IO_ERROR)
    }

    fn blk_read(&mut self, sector: u64, wanted: usize) -> Result<Vec<u8>, u8> {
        self.blk_range(sector, wanted as u64).map(|range| range.to_vec())
    }

    fn blk_write(&mut self, sector: u64, data: &[u8]) -> Result<Vec<u8>, u8> {
        self.blk_range(sector, data.len() as u64)?.copy_from_slice(data);
        Ok(Vec::new())
    }

    fn blk_zero(&mut self, data: &[u8]) -> Result<Vec<u8>, u8> {
        let [sector, rest] = [0, 8].map(|at| data.get(at..at + 8));
        let (Some(sector), Some(rest), 16) = (sector, rest, data.len()) else {
            self.violate(format!("a discard with {} bytes", data.len()));
            return Err(IO_ERROR);
        };
        let sector = u64::from_le_bytes(sector.try_into().unwrap_or_default());
        let sectors = u32::from_le_bytes(rest[..4].try_into().unwrap_or_default());
        if sectors > self.limits.sectors_max {
            self.violate(format!("a discard of {sectors} sectors"));
        }
        self.blk_range(sector, u64::from(sectors) * SECTOR)?.fill(0);
        Ok(Vec::new())
    }
}
