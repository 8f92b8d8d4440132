//! Any octets as what the kernel says of its associations and policies: read or passed over, and what is copied for another
//! path is a message again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xfrm::{Encapsulation, Event, Interface, Messages, Moved, PolicyInfo, SaInfo};

fuzz_target!(|data: &[u8]| {
    for received in Messages::new(data).flatten() {
        let _ = (Event::parse(received), PolicyInfo::parse(received), Interface::parse(received), received.answer());
        let encapsulation = Some(Encapsulation { source_port: 4500, destination_port: 4500 });
        let [source, destination] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().expect("an address"));
        let moved = Moved { source, destination, encapsulation, output_mark: Some(1), skip: 1 };
        if let (Some(_), Some(message)) = (SaInfo::parse(received), moved.add(received)) {
            let again = Messages::new(message.as_bytes()).next().expect("one message").expect("well formed");
            let again = SaInfo::parse(again).expect("an association still");
            assert_eq!((again.source, again.id.destination), (source, destination));
        }
    }
});
