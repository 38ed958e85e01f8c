//! `POST /containers/create`.

use http::StatusCode;

use crate::docker::{Answer, Call, Docker, query::encode};
use crate::{fleet::WhenMissing, fleet::wire, model::CreateContainer};

impl Docker {
    /// Creates a container where the scheduler says. A missing image is the client's to pull, as with one engine.
    pub(super) async fn create(&self, call: Call) -> Answer {
        let name = call.query.text("name").filter(|name| !name.is_empty()).map(str::to_owned);
        let platform = call.query.text("platform").filter(|platform| !platform.is_empty());
        let query = platform.map(|platform| format!("&platform={}", encode(platform))).unwrap_or_default();
        let body = call.json().await?;
        let wanted = CreateContainer { name, body, registry_auth: None };
        let created = self.fleet.create_container(wanted, WhenMissing::Refuse, &query).await?;
        Ok(wire::answer(StatusCode::CREATED, &created))
    }
}
