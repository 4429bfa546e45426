use alloc::vec::Vec;

/// Where a remapping unit is (§8.3, DRHD).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnitPlace {
    /// The PCI segment whose devices it remaps, all of them or some.
    pub segment: u16,
    /// Physical address of its registers.
    pub base: u64,
}

/// ACPI's DMA remapping table (§8.1).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dmar {
    /// The units.
    pub units: Vec<UnitPlace>,
    /// Memory that firmware has reserved for devices of its own, such as a keyboard that is made
    /// to look like an old one (§8.4, RMRR). Those devices lose it once the units are on.
    pub reserved: usize,
}

const HEADER_LEN: usize = 48;
const UNIT: u16 = 0;
const RESERVED_MEMORY: u16 = 1;

impl Dmar {
    /// Bytes of a unit's registers that are used here, as §11.1 places the last of them.
    pub const REGISTERS_LEN: usize = 4096;

    /// Reads the table, header included; what is cut off or not known is passed over.
    pub fn read(table: &[u8]) -> Self {
        let mut dmar = Self::default();
        let mut rest = table.get(HEADER_LEN..).unwrap_or_default();
        while let Some((kind, entry, after)) = entry(rest) {
            rest = after;
            match kind {
                UNIT => dmar.units.extend(unit(entry)),
                RESERVED_MEMORY => dmar.reserved += 1,
                _ => {}
            }
        }
        dmar
    }
}

/// The first entry's type and bytes, and what follows.
fn entry(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let kind = u16::from_le_bytes(*bytes.first_chunk()?);
    let len = u16::from_le_bytes(*bytes.get(2..)?.first_chunk()?);
    let (entry, after) = bytes.split_at_checked(len.into())?;
    (len >= 4).then_some((kind, entry, after))
}

fn unit(entry: &[u8]) -> Option<UnitPlace> {
    let segment = u16::from_le_bytes(*entry.get(6..)?.first_chunk()?);
    let base = u64::from_le_bytes(*entry.get(8..)?.first_chunk()?);
    (base != 0 && base.is_multiple_of(4096)).then_some(UnitPlace { segment, base })
}
