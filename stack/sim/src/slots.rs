//! Things by number, some of which may be elsewhere for a while.

pub(crate) struct Slots<T> {
    slots: Vec<Option<T>>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new() }
    }
}

impl<T> Slots<T> {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn push(&mut self, thing: T) {
        self.slots.push(Some(thing));
    }

    pub(crate) fn get(&self, number: usize) -> Option<&T> {
        self.slots.get(number)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.slots.get_mut(number)?.as_mut()
    }

    pub(crate) fn take(&mut self, number: usize) -> Option<T> {
        self.slots.get_mut(number)?.take()
    }

    pub(crate) fn put(&mut self, number: usize, thing: T) {
        if number >= self.slots.len() {
            self.slots.resize_with(number + 1, || None);
        }
        if let Some(slot) = self.slots.get_mut(number) {
            *slot = Some(thing);
        }
    }

    /// Those that are here, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }

    /// Those that are here, with their numbers.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(number, slot)| Some((number, slot.as_mut()?)))
    }
}
