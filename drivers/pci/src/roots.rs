//! Which node of a NUMA machine a function is on.

use alloc::vec::Vec;

use basalt_env::{Node, PciAddress, sort_few_by_key};

use crate::aml::{self, Root};

/// The host bridges of a machine.
#[derive(Clone, Debug)]
pub struct Roots {
    /// By segment and first bus.
    roots: Vec<Root>,
}

impl Roots {
    /// The host bridges that a DSDT (header included; empty if there is none) describes with
    /// constants. Firmware that computes them tells nothing here.
    pub fn read(dsdt: &[u8]) -> Self {
        let mut roots = aml::read(dsdt).roots;
        sort_few_by_key(&mut roots, |root| (root.segment, root.bus));
        Self { roots }
    }

    /// The node of the function at `address`: that of the host bridge it is below.
    pub fn node_of(&self, address: PciAddress) -> Option<Node> {
        let place = (address.segment, address.bus);
        let root = self.roots.iter().rev().find(|root| (root.segment, root.bus) <= place)?;
        root.node.filter(|_| root.segment == address.segment)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;

    use super::*;
    use crate::tests::term;

    #[test]
    fn a_function_is_on_the_node_of_the_host_bridge_above_it() {
        let root = |name: &[u8; 4], terms: &[Vec<u8>]| term::device(name, terms);
        let bus = |bus| term::number(b"_BBN", bus);
        let node = |node| term::number(b"_PXM", node);
        let computed = term::package(&[0x14], b"_PXM\0\xa4\x0a\x05");
        let unknown = term::package(&[0x14], b"_PXM\0\xa0\x02\x01");
        let terms = [
            root(b"PCI0", &[]),
            root(b"PC80", &[bus(0x80), node(1)]),
            root(b"PC40", &[node(2), bus(0x40)]),
            root(b"PCC0", &[bus(0xc0), computed]),
            root(b"PCE0", &[bus(0xe0), unknown]),
            root(b"PCF0", &[bus(0xf0), term::number(b"_SEG", 1), node(3)]),
        ];
        let dsdt = [vec![0; 36], term::scope(b"\\_SB_", &terms)].concat();
        let roots = Roots::read(&dsdt);
        let node = |segment, bus| roots.node_of(PciAddress::new(segment, bus, 0, 0));
        assert_eq!([0, 0x3f].map(|bus| node(0, bus)), [None; 2]);
        assert_eq!([0x40, 0x7f].map(|bus| node(0, bus)), [Some(2); 2]);
        assert_eq!([0x80, 0xbf].map(|bus| node(0, bus)), [Some(1); 2]);
        assert_eq!([0xc0, 0xe0, 0xff].map(|bus| node(0, bus)), [Some(5), None, None]);
        assert_eq!([0xef, 0xf0].map(|bus| node(1, bus)), [None, Some(3)]);
        assert_eq!(node(2, 0xf0), None);
        assert_eq!(Roots::read(&[]).node_of(PciAddress::new(0, 0, 0, 0)), None);
    }
}
