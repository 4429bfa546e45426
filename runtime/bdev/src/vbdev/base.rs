use alloc::string::String;

use crate::json::json_string;
use crate::uuid::{self, Uuid};
use crate::{Access, BdevInfo, CreateError, Descriptor, Registry};

/// A bdev that a virtual one stands on, claimed for it alone.
pub(crate) struct Base {
    pub(crate) descriptor: Descriptor,
}

impl Base {
    /// One that may be written anywhere.
    pub(crate) fn claim(registry: &Registry, name: &str) -> Result<Self, CreateError> {
        let base = Self::claim_any(registry, name)?;
        match base.descriptor.bdev().zones() {
            None => Ok(base),
            Some(_) => Err(CreateError::Unsuitable("its base has zones")),
        }
    }

    /// Any, for a layer that passes everything on as it is.
    pub(crate) fn claim_any(registry: &Registry, name: &str) -> Result<Self, CreateError> {
        let descriptor = registry.open(name, Access::Exclusive).map_err(CreateError::Base)?;
        Ok(Self { descriptor })
    }

    /// What a bdev of the same shape is, called `name`. Without a UUID of its own it gets one that
    /// is the same whenever it is made over the same base.
    pub(crate) fn same_shape(
        &self,
        name: &str,
        product_name: &'static str,
        uuid: Option<Uuid>,
    ) -> BdevInfo {
        let info = self.descriptor.info();
        let derived = || uuid::derive(&[product_name.as_bytes(), &info.uuid, name.as_bytes()]);
        BdevInfo {
            name: String::from(name),
            product_name,
            uuid: uuid.unwrap_or_else(derived),
            ..info.clone()
        }
    }

    /// Its name as a JSON string.
    pub(crate) fn name_json(&self) -> String {
        json_string(&self.descriptor.info().name)
    }
}
