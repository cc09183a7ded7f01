use proptest::prelude::*;
use tailwater_stack::testing::VecBuffer;
use tailwater_stack::{Buffer, HEADROOM, NoRoom};

#[test]
fn a_fresh_buffer_has_the_headroom_that_env_promises() {
    let mut buffer = VecBuffer::new();
    assert_eq!(buffer.headroom(), HEADROOM);
    assert_eq!(buffer.prepend(HEADROOM).map(|room| room.len()), Ok(HEADROOM));
    assert_eq!(buffer.prepend(1).err(), Some(NoRoom));
}

proptest! {
    #[test]
    fn reading_over_segments_equals_reading_the_whole(
        content in prop::collection::vec(any::<u8>(), 0..300), segment in 1usize..100,
        offset in 0usize..320, len in 0usize..320,
    ) {
        let buffer = VecBuffer::segmented(&content, segment);
        let mut read = vec![0; len];
        let result = buffer.read_at(offset, &mut read);
        match content.get(offset..offset + len) {
            Some(expected) => {
                prop_assert_eq!(result, Ok(()));
                prop_assert_eq!(&read[..], expected);
                prop_assert_eq!(buffer.pieces(offset, len).collect::<Vec<_>>().concat(), expected);
            }
            None => prop_assert_eq!(result, Err(NoRoom)),
        }
    }

    #[test]
    fn truncating_equals_truncating_the_whole(
        content in prop::collection::vec(any::<u8>(), 0..300), segment in 1usize..100, len in 0usize..320,
    ) {
        let mut buffer = VecBuffer::segmented(&content, segment);
        buffer.truncate(len);
        prop_assert_eq!(buffer.to_vec(), &content[..len.min(content.len())]);
        prop_assert_eq!(buffer.len(), len.min(content.len()));
    }
}
