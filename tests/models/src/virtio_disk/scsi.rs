use super::{DiskCard, QUEUES};

/// HOTPLUG and CHANGE.
pub(super) const FEATURES: u64 = 1 << 1 | 1 << 2;
pub(super) const FIRST_QUEUE: usize = 2;
const EVENT_QUEUE: usize = 1;
pub(super) const HEADER_LEN: usize = 51;
const RESPONSE_LEN: usize = 108;
/// SAM-5 §5.3.1.
const CHECK_CONDITION: u8 = 2;
const BUSY: u8 = 8;
/// Sense keys and additional sense codes (SPC-4 §4.5).
const READ_ERROR: (u8, u8) = (3, 0x11);
const INVALID_OPCODE: (u8, u8) = (5, 0x20);
const OUT_OF_RANGE: (u8, u8) = (5, 0x21);
const INVALID_FIELD: (u8, u8) = (5, 0x24);
const SECTOR: u64 = 512;

/// How a command ends: data to be sent, or a sense key and code.
type Ended = Result<Vec<u8>, (u8, u8)>;

impl DiskCard {
    pub(super) fn scsi_config(&self) -> Vec<u8> {
        let mut config = vec![0; 36];
        let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &u32::from(QUEUES).to_le_bytes());
        put(4, &self.limits.segments_max.to_le_bytes());
        put(8, &self.limits.sectors_max.to_le_bytes());
        put(20, &96_u32.to_le_bytes());
        put(24, &32_u32.to_le_bytes());
        put(30, &7_u16.to_le_bytes());
        config
    }

    pub(super) fn tell_events(&mut self) {
        while self.events > 0
            && self.common.is_working(EVENT_QUEUE)
            && self.common.shown(EVENT_QUEUE).is_ok_and(|n| n > 0)
        {
            let Ok((head, segments)) = self.common.take_chain(EVENT_QUEUE) else { return };
            let mut event = [0; 16];
            event[0] = 1;
            let Ok(written) = self.common.write_chain(&segments, &event) else { return };
            let _ = self.common.give_back(EVENT_QUEUE, head, written);
            self.events -= 1;
        }
    }

    /// What there is to be written for a command: response, then data.
    pub(super) fn scsi(&mut self, request: &[u8], room: usize) -> Vec<u8> {
        let mut response = vec![0; RESPONSE_LEN];
        let Some((header, data)) = request.split_at_checked(HEADER_LEN) else {
            self.violate("a command without header".into());
            return response;
        };
        let (target, cdb) = (header[1], &header[19..35]);
        if header[0] != 1 || header[2] & 0xc0 != 0x40 {
            self.violate(format!("a strange unit: {:?}", &header[..8]));
        }
        let wanted = room.saturating_sub(RESPONSE_LEN);
        let Some(medium) = self.media.get_mut(&target).filter(|_| header[3] == 0) else {
            response[11] = 3;
            return response;
        };
        if medium.busy > 0 && cdb[0] != 0x12 {
            medium.busy -= 1;
            response[10] = BUSY;
            return response;
        }
        match self.command(target, cdb, data) {
            Ok(answer) => {
                let sent = answer.len().min(wanted);
                let moved = if wanted > 0 { wanted - sent } else { 0 };
                response[4..8].copy_from_slice(&(moved as u32).to_le_bytes());
                response.extend(&answer[..sent]);
            }
            Err((key, code)) => {
                response[10] = CHECK_CONDITION;
                response[0] = 18;
                response[12..26]
                    .copy_from_slice(&[0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, 0]);
            }
        }
        response
    }

    fn command(&mut self, target: u8, cdb: &[u8], data: &[u8]) -> Ended {
        let lba = u64::from_be_bytes(cdb[2..10].try_into().unwrap_or_default());
        let count = u32::from_be_bytes(cdb[10..14].try_into().unwrap_or_default());
        match cdb[0] {
            0x00 | 0x35 => Ok(Vec::new()),
            0x12 => self.inquiry(target, cdb),
            0x9e if cdb[1] == 0x10 => {
                let medium = self.media.get(&target).ok_or(INVALID_FIELD)?;
                let mut answer = (medium.blocks() - 1).to_be_bytes().to_vec();
                answer.extend((medium.block_size as u32).to_be_bytes());
                answer.resize(32, 0);
                answer.truncate(count as usize);
                Ok(answer)
            }
            0x88 => self.blocks_of(target, lba, count).map(|range| range.to_vec()),
            0x8a => {
                let range = self.blocks_of(target, lba, count)?;
                if range.len() != data.len() {
                    let what = format!("{} bytes for {count} blocks", data.len());
                    self.violate(what);
                    return Err(INVALID_FIELD);
                }
                range.copy_from_slice(data);
                Ok(Vec::new())
            }
            0x42 => {
                let field = |at: usize, len: usize| data.get(at..at + len).ok_or(INVALID_FIELD);
                let lba = u64::from_be_bytes(field(8, 8)?.try_into().unwrap_or_default());
                let count = u32::from_be_bytes(field(16, 4)?.try_into().unwrap_or_default());
                self.blocks_of(target, lba, count)?.fill(0);
                Ok(Vec::new())
            }
            _ => Err(INVALID_OPCODE),
        }
    }

    fn blocks_of(&mut self, target: u8, lba: u64, count: u32) -> Result<&mut [u8], (u8, u8)> {
        let sectors_max = u64::from(self.limits.sectors_max);
        let medium = self.media.get_mut(&target).ok_or(INVALID_FIELD)?;
        if u64::from(count) * medium.block_size as u64 > sectors_max * SECTOR {
            self.violations.push(format!("{count} blocks at once"));
        }
        let is_inside = lba.checked_add(count.into()).is_some_and(|end| end <= medium.blocks());
        let error = if is_inside { READ_ERROR } else { OUT_OF_RANGE };
        medium.range(lba, count.into()).ok_or(error)
    }

    fn inquiry(&mut self, target: u8, cdb: &[u8]) -> Ended {
        let medium = self.media.get(&target).ok_or(INVALID_FIELD)?;
        let len = usize::from(u16::from_be_bytes([cdb[3], cdb[4]]));
        let mut answer = match (cdb[1] & 1, cdb[2]) {
            (0, _) => {
                let mut answer = vec![0; 36];
                answer[8..24].copy_from_slice(b"BASALT  MODEL   ");
                answer
            }
            (_, 0x80) => {
                let mut answer = vec![0, 0x80, 0, medium.serial.len() as u8];
                answer.extend(medium.serial.bytes());
                answer
            }
            (_, 0xb0) => {
                let mut answer = vec![0; 64];
                (answer[1], answer[3]) = (0xb0, 60);
                let most = self.limits.sectors_max / (medium.block_size as u32 / 512);
                answer[20..24].copy_from_slice(&most.to_be_bytes());
                answer[24..28].copy_from_slice(&1_u32.to_be_bytes());
                answer
            }
            (_, 0xb2) => vec![0, 0xb2, 0, 4, 0, 0x80, 0, 0],
            _ => return Err(INVALID_FIELD),
        };
        answer.truncate(len);
        Ok(answer)
    }
}
