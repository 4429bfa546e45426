use crate::regs;

/// Capability identifiers this project knows (PCI Code and ID Assignment 1.11 §2 and §3).
pub mod id {
    /// MSI-X.
    pub const MSIX: u8 = 0x11;
    /// PCI Express.
    pub const PCI_EXPRESS: u8 = 0x10;
    /// Vendor specific; virtio describes its registers with these.
    pub const VENDOR: u8 = 0x09;
}

/// A list longer than the space it lives in is a loop: 192 bytes of 4-byte entries.
const STEPS_MAX: u8 = 48;
/// The same for extended capabilities: 3840 bytes of 8-byte entries.
const EXTENDED_STEPS_MAX: u16 = 480;

/// A capability's header (PCI Local Bus 3.0 §6.7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capability {
    /// What it is.
    pub id: u8,
    /// Where its header starts in configuration space, bytes; a multiple of 4.
    pub offset: u16,
}

/// The capabilities of a function whose configuration space `read` reads by dword offset.
pub fn capabilities<R: Fn(u16) -> u32>(read: R) -> Capabilities<R> {
    let listed = read(regs::COMMAND_STATUS) & regs::STATUS_CAPABILITIES != 0;
    let next = if listed { read(regs::CAPABILITIES) as u8 } else { 0 };
    Capabilities { read, next, steps_left: STEPS_MAX }
}

/// Iterator over a function's capabilities; ends at a pointer into the header.
#[derive(Clone, Debug)]
pub struct Capabilities<R> {
    read: R,
    next: u8,
    steps_left: u8,
}

impl<R: Fn(u16) -> u32> Iterator for Capabilities<R> {
    type Item = Capability;

    fn next(&mut self) -> Option<Capability> {
        let offset = u16::from(self.next & !3);
        if offset < 0x40 || self.steps_left == 0 {
            return None;
        }
        self.steps_left -= 1;
        let [id, next, ..] = (self.read)(offset).to_le_bytes();
        self.next = next;
        // All ones: the device is gone, and so is the rest of the list.
        (id != u8::MAX).then_some(Capability { id, offset })
    }
}

/// An extended capability's header (PCI Express Base 5.0 §7.6.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtendedCapability {
    /// What it is.
    pub id: u16,
    /// Version of its layout.
    pub version: u8,
    /// Where its header starts in configuration space, bytes; a multiple of 4.
    pub offset: u16,
}

/// The extended capabilities of a function; none unless it is a PCI Express one, since others
/// may answer the extended space with anything.
pub fn extended_capabilities<R: Fn(u16) -> u32>(read: R) -> ExtendedCapabilities<R> {
    let express = capabilities(&read).any(|capability| capability.id == id::PCI_EXPRESS);
    let next = if express { 0x100 } else { 0 };
    ExtendedCapabilities { read, next, steps_left: EXTENDED_STEPS_MAX }
}

/// Iterator over a function's extended capabilities.
#[derive(Clone, Debug)]
pub struct ExtendedCapabilities<R> {
    read: R,
    next: u16,
    steps_left: u16,
}

impl<R: Fn(u16) -> u32> Iterator for ExtendedCapabilities<R> {
    type Item = ExtendedCapability;

    fn next(&mut self) -> Option<ExtendedCapability> {
        let offset = self.next & !3;
        if offset < 0x100 || self.steps_left == 0 {
            return None;
        }
        self.steps_left -= 1;
        let header = (self.read)(offset);
        self.next = (header >> 20) as u16;
        let (id, version) = (header as u16, (header >> 16) as u8 & 0xf);
        (!matches!(header, 0 | u32::MAX)).then_some(ExtendedCapability { id, version, offset })
    }
}
