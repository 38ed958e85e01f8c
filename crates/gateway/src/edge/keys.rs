//! Access keys with their secrets, ready for verification: kept in memory, renewed when the store changes.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use sampan_store::{Kind, SecretBytes, Store, StoreError, model::AccessKey};
use tokio::sync::broadcast::error::RecvError;

/// A key and its secret.
pub struct Key {
    /// Whose key it is.
    pub owner: AccessKey,
    /// The secret.
    pub secret: SecretBytes,
}

/// All keys of the installation.
pub struct Keys {
    store: Store,
    keys: RwLock<HashMap<String, Arc<Key>>>,
}

/// Name of the secret of an access key among the secrets of the store.
pub fn secret_name(access_key_id: &str) -> String {
    format!("access-key/{access_key_id}")
}

impl Keys {
    /// Loads all keys, and follows changes until the store is gone.
    pub async fn load(store: Store) -> Result<Arc<Self>, StoreError> {
        let changes = store.watch();
        let keys = Arc::new(Self { store, keys: RwLock::default() });
        keys.reload().await?;
        tokio::spawn(follow(Arc::clone(&keys), changes));
        Ok(keys)
    }

    /// The key of that id.
    pub fn get(&self, access_key_id: &str) -> Option<Arc<Key>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).get(access_key_id).cloned()
    }

    async fn reload(&self) -> Result<(), StoreError> {
        let mut loaded = HashMap::new();
        for key in self.store.list::<AccessKey>() {
            match self.store.secret(&secret_name(&key.id)).await? {
                Some(secret) => {
                    loaded.insert(key.id.clone(), Arc::new(Key { owner: key.value.clone(), secret }));
                }
                None => tracing::warn!(access_key = %key.id, "this access key has no secret and cannot be used"),
            }
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }
}

async fn follow(keys: Arc<Keys>, mut changes: tokio::sync::broadcast::Receiver<sampan_store::Change>) {
    loop {
        match changes.recv().await {
            Ok(change) if change.kind != Kind::AccessKey => {}
            Ok(_) | Err(RecvError::Lagged(_)) => {
                if let Err(error) = keys.reload().await {
                    tracing::error!(%error, "cannot reload the access keys; the former ones stay in force");
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}
