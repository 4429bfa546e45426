//! Every rule of NVMe/TCP 1.0 and of base specification 2.0's fabrics commands, broken once: the
//! answer is the one demanded, and another host never notices.

mod commands;
mod connects;
mod pdus;
