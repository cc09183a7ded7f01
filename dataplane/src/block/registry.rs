//! The block kinds that a graph can name, and what their constructors may ask for.

use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Kind, ParameterError};

/// Why a block could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A parameter is wrong.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// Something that the block works with is not there in this process.
    #[error("needs {0}, which this command does not provide")]
    Service(&'static str),
    /// The block's own reason.
    #[error("{0}")]
    Other(String),
}

/// Things shared between blocks, workers and the control plane (a forwarding table, a capture writer), by type.
#[derive(Clone, Default)]
pub struct Services {
    things: HashMap<TypeId, Arc<dyn Any + Send + Sync>>,
    /// Which worker the block is built for.
    pub worker: usize,
}

impl Services {
    /// Adds or exchanges the thing of type `T`.
    pub fn insert<T: Any + Send + Sync>(&mut self, thing: Arc<T>) {
        self.things.insert(TypeId::of::<T>(), thing);
    }

    /// The thing of type `T`.
    pub fn find<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.things.get(&TypeId::of::<T>()).cloned().and_then(|thing| thing.downcast().ok())
    }
}

/// Names of the ports in index order, among the [`Services`] of a running dataplane.
pub struct PortNames(pub Vec<String>);

/// Block kinds by name.
#[derive(Clone, Default)]
pub struct Registry {
    kinds: BTreeMap<&'static str, Kind>,
}

impl Registry {
    /// The kinds that come with this crate.
    pub fn builtin() -> Self {
        let mut registry = Self::default();
        crate::blocks::KINDS.iter().for_each(|kind| registry.add(*kind));
        registry
    }

    /// Adds a kind; one of the same name is exchanged.
    pub fn add(&mut self, kind: Kind) {
        self.kinds.insert(kind.name, kind);
    }

    /// The kind of that name.
    pub fn find(&self, name: &str) -> Option<&Kind> {
        self.kinds.get(name)
    }

    /// All kinds, by name.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.kinds.values()
    }
}
