//! The few facts about host bridges and hot plugging that only ACPI's byte code has (ACPI 6.5
//! §20.2), read without running it: QEMU writes them as constants, the latter after its
//! `docs/specs/acpi_pci_hotplug.rst`.

use alloc::vec::Vec;

use basalt_env::Node;

/// A table nested deeper is none that firmware made.
const DEPTH_MAX: usize = 16;

const ZERO_OP: u8 = 0x00;
const ONE_OP: u8 = 0x01;
const ALIAS_OP: u8 = 0x06;
const NAME_OP: u8 = 0x08;
const BYTE_PREFIX: u8 = 0x0a;
const WORD_PREFIX: u8 = 0x0b;
const DWORD_PREFIX: u8 = 0x0c;
const STRING_PREFIX: u8 = 0x0d;
const QWORD_PREFIX: u8 = 0x0e;
const SCOPE_OP: u8 = 0x10;
const BUFFER_OP: u8 = 0x11;
const PACKAGE_OP: u8 = 0x12;
const VAR_PACKAGE_OP: u8 = 0x13;
const METHOD_OP: u8 = 0x14;
const EXTERNAL_OP: u8 = 0x15;
const EXT_PREFIX: u8 = 0x5b;
const IF_OP: u8 = 0xa0;
const ELSE_OP: u8 = 0xa1;
const RETURN_OP: u8 = 0xa4;
const ONES_OP: u8 = 0xff;

const EXT_MUTEX: u8 = 0x01;
const EXT_EVENT: u8 = 0x02;
const EXT_REGION: u8 = 0x80;
const EXT_DEVICE: u8 = 0x82;
/// Fields, processors, power resources, thermal zones: what is in them is not looked at.
const EXT_OTHERS_WITH_LENGTH: [u8; 6] = [0x81, 0x83, 0x84, 0x85, 0x86, 0x87];

const SYSTEM_IO: u8 = 1;

/// A bus with slots, by the selector that names it and the way to it: device and function of each
/// bridge from the first bus of segment 0 on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selector {
    /// `BSEL`.
    pub number: u32,
    /// Device and function of each bridge on the way.
    pub path: Vec<(u8, u8)>,
}

/// A host bridge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    /// `_SEG` (ACPI 6.5 §6.5.6).
    pub segment: u16,
    /// `_BBN` (§6.5.5), the first of its buses.
    pub bus: u8,
    /// `_PXM` (§6.2.14).
    pub node: Option<Node>,
}

/// What the table says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// First port of the hot-plug controller's registers (region `PCST`).
    pub ports: Option<u16>,
    /// Buses with slots.
    pub selectors: Vec<Selector>,
    /// Host bridges but for those that do not say where they are: of these there is one at most.
    pub roots: Vec<Root>,
}

/// Reads a DSDT, header included. A part that is encoded in a way not known here is passed over.
pub fn read(table: &[u8]) -> Facts {
    const HEADER_LEN: usize = 36;
    let mut facts = Facts::default();
    let scope = Scope { path: Vec::new(), on_root: true };
    walk(table.get(HEADER_LEN..).unwrap_or_default(), scope, DEPTH_MAX, &mut facts);
    facts
}

/// Where in the tree of devices a list of terms belongs.
#[derive(Clone)]
struct Scope {
    path: Vec<(u8, u8)>,
    /// Whether it is below the first host bridge, `PCI0`, or above all of them.
    on_root: bool,
}

impl Scope {
    fn enter(&self, name: Name) -> Self {
        let on_root = if is_host_bridge(name) { name == *b"PCI0" } else { self.on_root };
        Self { on_root, ..self.clone() }
    }
}

/// QEMU calls the first one `PCI0` and others `PC` with their bus number.
fn is_host_bridge(name: Name) -> bool {
    name.starts_with(b"PC")
}

fn walk(terms: &[u8], mut scope: Scope, depth: usize, facts: &mut Facts) {
    let mut reader = Reader { bytes: terms };
    let mut selector = None;
    let (mut segment, mut bus, mut node) = (0, None, None);
    while let Some(term) = reader.term() {
        match term {
            Term::Number(name, value) => match &name {
                b"_ADR" => {
                    let place = ((value >> 16) as u8 & 0x1f, value as u8 & 7);
                    // The host bridge's own address is no step on the way.
                    if !scope.path.is_empty() {
                        scope.path.pop();
                        scope.path.push(place);
                    }
                }
                b"BSEL" => selector = Some(value as u32),
                b"_SEG" => segment = value as u16,
                b"_BBN" => bus = Some(value as u8),
                b"_PXM" => node = Node::try_from(value).ok(),
                _ => {}
            },
            Term::Region(name, port) => {
                if name == *b"PCST" {
                    facts.ports = Some(port);
                }
            }
            Term::Scope(name, terms) if depth > 0 => {
                walk(terms, scope.enter(name), depth - 1, facts);
            }
            Term::Device(name, terms) if depth > 0 => {
                let mut inner = scope.enter(name);
                if !is_host_bridge(name) {
                    // Its address follows, as one of its names.
                    inner.path.push((0, 0));
                }
                walk(terms, inner, depth - 1, facts);
            }
            Term::Scope(..) | Term::Device(..) | Term::Other => {}
        }
    }
    if let Some(number) = selector.filter(|_| scope.on_root) {
        facts.selectors.push(Selector { number, path: scope.path });
    }
    facts.roots.extend(bus.map(|bus| Root { segment, bus, node }));
}

type Name = [u8; 4];

enum Term<'a> {
    Number(Name, u64),
    Region(Name, u16),
    Scope(Name, &'a [u8]),
    Device(Name, &'a [u8]),
    Other,
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The next term; none at the end, or where it is not known how long a term is.
    fn term(&mut self) -> Option<Term<'a>> {
        match self.byte()? {
            SCOPE_OP => {
                let mut inner = self.package()?;
                Some(Term::Scope(inner.name()?, inner.bytes))
            }
            NAME_OP => {
                let name = self.name()?;
                Some(self.data()?.map_or(Term::Other, |value| Term::Number(name, value)))
            }
            METHOD_OP => {
                let inner = self.package()?;
                Some(
                    inner
                        .constant_method()
                        .map_or(Term::Other, |(name, value)| Term::Number(name, value)),
                )
            }
            IF_OP | ELSE_OP => self.package().map(|_| Term::Other),
            ALIAS_OP => {
                self.name()?;
                self.name().map(|_| Term::Other)
            }
            EXTERNAL_OP => {
                self.name()?;
                self.take(2).map(|_| Term::Other)
            }
            EXT_PREFIX => self.extended(),
            _ => None,
        }
    }

    fn extended(&mut self) -> Option<Term<'a>> {
        match self.byte()? {
            EXT_DEVICE => {
                let mut inner = self.package()?;
                Some(Term::Device(inner.name()?, inner.bytes))
            }
            EXT_REGION => {
                let (name, space) = (self.name()?, self.byte()?);
                let (start, _len) = (self.data()??, self.data()??);
                let port = u16::try_from(start).ok().filter(|_| space == SYSTEM_IO);
                Some(port.map_or(Term::Other, |port| Term::Region(name, port)))
            }
            EXT_MUTEX => {
                self.name()?;
                self.byte().map(|_| Term::Other)
            }
            EXT_EVENT => self.name().map(|_| Term::Other),
            op if EXT_OTHERS_WITH_LENGTH.contains(&op) => self.package().map(|_| Term::Other),
            _ => None,
        }
    }

    /// A method that does nothing but give a number, which some firmware writes for a constant.
    fn constant_method(mut self) -> Option<(Name, u64)> {
        let name = self.name()?;
        let _flags = self.byte()?;
        (self.byte()? == RETURN_OP).then(|| self.data())??.map(|value| (name, value))
    }

    /// A constant: a number, or something else that is passed over.
    fn data(&mut self) -> Option<Option<u64>> {
        let len = match self.byte()? {
            ZERO_OP => return Some(Some(0)),
            ONE_OP => return Some(Some(1)),
            ONES_OP => return Some(Some(u64::MAX)),
            BYTE_PREFIX => 1,
            WORD_PREFIX => 2,
            DWORD_PREFIX => 4,
            QWORD_PREFIX => 8,
            STRING_PREFIX => {
                let len = self.bytes.iter().position(|byte| *byte == 0)?;
                return self.take(len + 1).map(|_| None);
            }
            BUFFER_OP | PACKAGE_OP | VAR_PACKAGE_OP => return self.package().map(|_| None),
            _ => return None,
        };
        let mut value = [0; 8];
        value[..len].copy_from_slice(self.take(len)?);
        Some(Some(u64::from_le_bytes(value)))
    }

    /// The last segment of a name (§20.2.2), which is empty for the root.
    fn name(&mut self) -> Option<Name> {
        while matches!(self.bytes.first(), Some(b'\\' | b'^')) {
            self.byte();
        }
        let segments = match self.bytes.first()? {
            0 => {
                self.byte();
                return Some([0; 4]);
            }
            0x2e => {
                self.byte();
                2
            }
            0x2f => {
                self.byte();
                usize::from(self.byte()?)
            }
            _ => 1,
        };
        self.take(4 * segments)?.last_chunk().copied()
    }

    /// What a length (§20.2.4), which counts itself, spans.
    fn package(&mut self) -> Option<Reader<'a>> {
        let whole = self.bytes;
        let lead = self.byte()?;
        let more = usize::from(lead >> 6);
        let mut len = usize::from(lead & if more == 0 { 0x3f } else { 0x0f });
        for (at, byte) in self.take(more)?.iter().enumerate() {
            len |= usize::from(*byte) << (4 + 8 * at);
        }
        let rest = len.checked_sub(1 + more)?;
        // The whole of it must be there.
        whole.get(..len)?;
        Some(Reader { bytes: self.take(rest)? })
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(len)?;
        self.bytes = rest;
        Some(taken)
    }
}
