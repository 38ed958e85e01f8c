//! Activation of the service. There is nothing to pay here; the agreement is kept as ordinary state.

use sampan_store::model::{Outcome, Setting, new_token};

use super::{RequestContext, Service, fields};

/// Service types that can be activated.
const TYPES: [&str; 3] = ["propayasgo", "edgepayasgo", "gspayasgo"];

impl Service {
    /// Activates a service type (none given: the service itself) and answers the order's number; activating again answers
    /// the same number.
    ///
    /// # Errors
    /// InvalidParameter of `type`.
    pub async fn open_service(&self, ctx: &RequestContext, service_type: Option<&str>) -> Outcome<String> {
        let wanted = service_type.map(str::trim).filter(|t| !t.is_empty());
        if let Some(wanted) = wanted {
            fields::one_of("type", wanted, &TYPES)?;
        }
        let id = format!("subscription/{}/{}", ctx.account_id, wanted.unwrap_or("default"));
        self.change(ctx, |change| {
            if let Some(order) =
                change.store.get::<Setting>(&id).and_then(|s| s.value.value["order_id"].as_str().map(String::from))
            {
                return Ok(order);
            }
            // Sixteen decimal digits, as order numbers look.
            let digits = u64::from_str_radix(&new_token(7), 16).unwrap_or_default() % 10_000_000_000_000_000;
            let order = format!("{digits:016}");
            change.create(&Setting {
                id: id.clone(),
                value: serde_json::json!({"order_id": order, "opened": change.now}),
            });
            Ok(order)
        })
        .await
    }
}
