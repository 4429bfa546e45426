use alloc::boxed::Box;
use alloc::rc::{Rc, Weak};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::cell::RefCell;

use basalt_reactor::Local;

use crate::uuid;
use crate::{Bdev, CreateError, Event, OpenError, RegisterError, Registry, UnregisterError};

/// Makes the bdevs of a recipe, not registered yet.
type Make = Box<dyn Fn(&Registry) -> Result<Vec<Arc<dyn Bdev>>, CreateError>>;

/// Whether what a recipe made outlives a bdev.
pub type Survives = Box<dyn Fn(&dyn Bdev) -> bool>;

/// A virtual bdev that was asked for: what it stands on, and how it is made.
///
/// ```text
///            (1) all bases are there
///   waiting -------------------------> made          (2) a base goes: waiting again
///                                                    (3) deleted: no more
/// ```
pub struct Recipe {
    /// What it is deleted by: the bdev's name, or what its parts have in common.
    pub name: String,
    /// The module's product name.
    pub product_name: &'static str,
    /// Names or UUIDs of what it stands on.
    pub bases: Vec<String>,
    /// How it is made once all of them are there.
    pub make: Make,
    /// Told of each bdev that goes while it is made: whether what was made is there to stay.
    /// Without it, nothing is that stands on that bdev.
    pub survives: Option<Survives>,
    /// What can be changed of it, there or not: [`Vbdevs::handle`].
    pub handle: Option<Box<dyn Any>>,
}

/// What has become of a recipe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Made {
    /// These bdevs are there.
    Now(Vec<String>),
    /// A base is not there yet: they are made when it comes.
    Later,
}

struct Kept {
    recipe: Recipe,
    made: RefCell<Vec<String>>,
}

/// All virtual bdevs of the program: a service of core 0, next to the [`Registry`].
pub struct Vbdevs {
    registry: Weak<Registry>,
    kept: RefCell<Vec<Rc<Kept>>>,
}

impl Vbdevs {
    /// This core's, which is core 0. `None` if it has no [`Registry`].
    pub fn of(local: &Local) -> Option<Rc<Self>> {
        if let Some(vbdevs) = local.service() {
            return Some(vbdevs);
        }
        let vbdevs = Self::new(&local.service::<Registry>()?);
        local.provide(Rc::clone(&vbdevs));
        Some(vbdevs)
    }

    /// Those over the bdevs of `registry`.
    pub fn new(registry: &Rc<Registry>) -> Rc<Self> {
        let kept = RefCell::default();
        let vbdevs = Rc::new(Self { registry: Rc::downgrade(registry), kept });
        let told = Rc::downgrade(&vbdevs);
        registry.subscribe(move |event| {
            if let Some(vbdevs) = told.upgrade() {
                vbdevs.hear(event);
            }
        });
        vbdevs
    }

    /// Makes what `recipe` says, now or as soon as its bases are there.
    ///
    /// # Errors
    /// The name is another recipe's, or the bases are there and it cannot be made of them; the
    /// recipe is then not kept.
    pub fn create(&self, recipe: Recipe) -> Result<Made, CreateError> {
        let name_taken = CreateError::Register(RegisterError::NameTaken);
        let registry = self.registry.upgrade().ok_or(name_taken)?;
        // A split is called as its base, which may itself be of a recipe.
        let same = |kept: &Rc<Kept>| kept.is(recipe.product_name, &recipe.name);
        if self.kept.borrow().iter().any(same) {
            return Err(name_taken);
        }
        let kept = Rc::new(Kept { recipe, made: RefCell::default() });
        match kept.make(&registry) {
            Ok(()) => {}
            Err(CreateError::Base(OpenError::NoSuchBdev)) => {
                let Recipe { name, bases, .. } = &kept.recipe;
                log::info!(target: "bdev", "{name} waits for {}", bases.join(", "));
                self.kept.borrow_mut().push(kept);
                return Ok(Made::Later);
            }
            Err(error) => return Err(error),
        }
        let made = kept.made.borrow().clone();
        self.kept.borrow_mut().push(kept);
        Ok(Made::Now(made))
    }

    /// Takes away what was made by the recipe of that name and kind, and forgets it.
    ///
    /// # Errors
    /// There is none.
    pub fn delete(&self, product_name: &str, name: &str) -> Result<(), UnregisterError> {
        let at = self.kept.borrow().iter().position(|kept| kept.is(product_name, name));
        let kept = at.map(|at| self.kept.borrow_mut().remove(at));
        let kept = kept.ok_or(UnregisterError::NoSuchBdev)?;
        if let Some(registry) = self.registry.upgrade() {
            kept.take_away(&registry);
        }
        Ok(())
    }

    /// The handle of the recipe of that name, if it has one of that type.
    pub fn handle<T: Clone + 'static>(&self, name: &str) -> Option<T> {
        let kept = self.kept.borrow();
        let named = kept.iter().filter(|kept| kept.recipe.name == name);
        let mut handles = named.filter_map(|kept| kept.recipe.handle.as_ref()?.downcast_ref());
        handles.next().cloned()
    }

    /// The handles of that type, in order of creation.
    pub fn handles<T: Clone + 'static>(&self) -> Vec<T> {
        let kept = self.kept.borrow();
        let handles = kept.iter().filter_map(|kept| kept.recipe.handle.as_ref()?.downcast_ref());
        handles.cloned().collect()
    }

    fn hear(&self, event: &Event) {
        let Some(registry) = self.registry.upgrade() else { return };
        // Making and taking away are events in turn, so nothing is borrowed meanwhile.
        let all = self.kept.borrow().clone();
        match event {
            Event::Registered(bdev) => {
                all.iter().filter(|kept| kept.waits_for(&**bdev)).for_each(|kept| {
                    if let Err(error) = kept.make(&registry) {
                        log::warn!(target: "bdev", "{} is not made: {error}", kept.recipe.name);
                    }
                });
            }
            Event::Resized(bdev, _) => {
                all.iter().filter(|kept| kept.stands_on(&**bdev)).for_each(|kept| {
                    kept.follow_size(&registry);
                });
            }
            Event::Removed(bdev) => {
                all.iter().for_each(|kept| kept.forget(&bdev.info().name));
                all.iter().filter(|kept| kept.falls_with(&**bdev)).for_each(|kept| {
                    kept.take_away(&registry);
                });
            }
        }
    }
}

impl Kept {
    fn is(&self, product_name: &str, name: &str) -> bool {
        self.recipe.name == name && self.recipe.product_name == product_name
    }

    fn make(&self, registry: &Registry) -> Result<(), CreateError> {
        let there = |name: &String| registry.get(name).is_some();
        if !self.recipe.bases.iter().all(there) {
            return Err(CreateError::Base(OpenError::NoSuchBdev));
        }
        for bdev in (self.recipe.make)(registry)? {
            let name = bdev.info().name.clone();
            if let Err(error) = registry.register(bdev) {
                self.take_away(registry);
                return Err(error.into());
            }
            self.made.borrow_mut().push(name);
        }
        Ok(())
    }

    fn take_away(&self, registry: &Registry) {
        for name in self.made.take() {
            // Somebody may have removed it already.
            let _ = registry.remove(&name);
        }
    }

    fn follow_size(&self, registry: &Registry) {
        let made = self.made.borrow().clone();
        for bdev in made.iter().filter_map(|name| registry.get(name)) {
            let name = &bdev.info().name;
            let size = bdev.resized_with_base();
            if let Some(Err(error)) = size.map(|size| registry.has_size(name, size)) {
                log::error!(target: "bdev", "{name} cannot follow its base: {error}");
            }
        }
    }

    fn stands_on(&self, bdev: &dyn Bdev) -> bool {
        let info = bdev.info();
        let is_it = |base: &String| *base == info.name || uuid::parse(base) == Some(info.uuid);
        self.recipe.bases.iter().any(is_it)
    }

    fn falls_with(&self, bdev: &dyn Bdev) -> bool {
        match &self.recipe.survives {
            Some(survives) => !self.made.borrow().is_empty() && !survives(bdev),
            None => self.stands_on(bdev),
        }
    }

    fn waits_for(&self, bdev: &dyn Bdev) -> bool {
        self.made.borrow().is_empty() && self.stands_on(bdev)
    }

    fn forget(&self, name: &str) {
        self.made.borrow_mut().retain(|made| made != name);
    }
}
