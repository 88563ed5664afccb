//! A reset of the machine.

use qtest::pci::Address;
use qtest::{Guest, Width};

use crate::emulator::{Machine, emulator};

#[test]
fn a_reset_is_done_before_what_follows() {
    if emulator().is_none() {
        eprintln!("skipped: there is no emulator");
        return;
    }
    for name in ["pc", "q35"] {
        let mut machine = Machine::with(&["-M".to_owned(), name.to_owned()], 1 << 20);
        let guest = &mut machine.guest;
        // A register of the host bridge that holds what is written: PCI 3.0, section 6.2.4.
        const INTERRUPT_LINE: u8 = 0x3c;
        let bridge = Address {
            bus: 0,
            device: 0,
            function: 0,
        };
        let line = |guest: &mut Guest| bridge.read(guest, Width::B, INTERRUPT_LINE).unwrap();
        for _ in 0..3 {
            bridge.write(guest, Width::B, INTERRUPT_LINE, 0x55).unwrap();
            assert_eq!(line(guest), 0x55, "{name}");
            guest.client().reset().unwrap();
            assert_eq!(line(guest), 0, "{name}");
        }
    }
}
