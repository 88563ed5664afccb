//! A reset of the machine.

use qtest::Width;

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
        // The bus number of the address that the ports of the configuration space select.
        let select = 0x8001_0000;
        guest.port_out(Width::L, 0xcf8, select).unwrap();
        assert_eq!(guest.port_in(Width::L, 0xcf8).unwrap(), select);
        for _ in 0..3 {
            guest.client().reset().unwrap();
            assert_eq!(guest.port_in(Width::L, 0xcf8).unwrap(), 0, "{name}");
            guest.port_out(Width::L, 0xcf8, select).unwrap();
        }
    }
}
