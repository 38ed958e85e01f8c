//! Triggers: made for applications that exist, called by whoever has the link and the secret.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use sampan_store::model::{Cluster, Fault, FaultKind, Outcome, Trigger, TriggerAction};

use super::{super::Settings, World, field};
use crate::{
    ports::{ApplicationService, Applications},
    service::trigger::{Link, Pull, TriggerCreate, TriggerShown, TriggersWanted},
};

/// One application, `shop`, and what was done to it.
#[derive(Default)]
struct Shop {
    done: Mutex<Vec<String>>,
}

impl Shop {
    fn note(&self, text: String) {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Applications for Shop {
    async fn services(&self, _: &Cluster, project: &str) -> Outcome<Vec<ApplicationService>> {
        if project != "shop" {
            return Err(Fault::not_found("Application", project));
        }
        let service = |name: &str, image: &str| ApplicationService { name: name.into(), image: image.into() };
        Ok(vec![service("web", "127.0.0.1:5000/shop/web:1"), service("db", "mysql:5.7")])
    }
    async fn redeploy(&self, cluster: &Cluster, project: &str) -> Outcome<()> {
        self.note(format!("redeploy {project} of {}", cluster.name));
        Ok(())
    }
    async fn scale_by(&self, _: &Cluster, service_id: &str, by: i32) -> Outcome<()> {
        self.note(format!("{service_id} {by:+}"));
        Ok(())
    }
}

async fn shop() -> (World, Arc<Shop>, String) {
    let world = World::with(Settings { registry_port: Some(5000), ..Settings::default() }).await;
    let shop = Arc::new(Shop::default());
    world.service.set_applications(Arc::clone(&shop) as Arc<_>);
    let id = world.running("harbour", 1).await;
    (world, shop, id)
}

fn wanted(cluster_id: &str, action: &str, service: Option<&str>) -> TriggerCreate {
    TriggerCreate {
        cluster_id: cluster_id.into(),
        project_id: Some("default/shop".into()),
        action: Some(action.into()),
        service: service.map(str::to_owned),
        ..TriggerCreate::default()
    }
}

fn pull(shown: &TriggerShown) -> Pull {
    Pull { token: Some(Link::token(&shown.trigger)), secret: Some(shown.secret.clone()), ..Pull::default() }
}

#[tokio::test]
async fn a_redeploy_trigger_does_what_it_says_until_it_is_deleted() {
    let (world, shop, id) = shop().await;
    let shown = world.service.trigger_create(&world.ctx, &wanted(&id, "redeploy", None)).await.expect("made");
    assert_eq!((shown.secret.len(), shown.trigger.id.len()), (64, 13));
    assert!(shown.secret.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(shown.trigger.token_text(), format!("{id}|shop|redeploy|{}|", shown.trigger.id));
    world.service.trigger_fire(&pull(&shown)).await.expect("called");
    assert_eq!(shop.take(), ["redeploy shop of harbour"]);

    let listed = world.service.triggers(&world.ctx, &id, &TriggersWanted::default()).await.expect("listed");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].secret, shown.secret);
    let other = TriggersWanted { action: Some("scaling".into()), ..TriggersWanted::default() };
    assert!(world.service.triggers(&world.ctx, &id, &other).await.expect("listed").is_empty());

    world.service.trigger_delete(&world.ctx, &id, &shown.trigger.id).await.expect("deleted");
    let again = world.service.trigger_fire(&pull(&shown)).await.expect_err("gone");
    assert_eq!(again.kind, FaultKind::Forbidden);
    let gone = world.service.trigger_delete(&world.ctx, &id, &shown.trigger.id).await.expect_err("gone");
    assert_eq!(gone.kind, FaultKind::NotFound("Trigger".into()));
    assert_eq!(world.store.secret(&shown.trigger.secret_name()).await.expect("read"), None);
    assert!(shop.take().is_empty());
}

#[tokio::test]
async fn a_scaling_trigger_needs_type_and_step() {
    let (world, shop, id) = shop().await;
    let shown = world.service.trigger_create(&world.ctx, &wanted(&id, "scaling", Some("web"))).await.expect("made");
    let call = |kind: &str, step: &str| Pull { kind: Some(kind.into()), step: Some(step.into()), ..pull(&shown) };
    world.service.trigger_fire(&call("scale_out", "5")).await.expect("called");
    world.service.trigger_fire(&call("scale_in", "2")).await.expect("called");
    assert_eq!(shop.take(), ["shop_web +5", "shop_web -2"]);
    for (wrong, named) in [(pull(&shown), "type"), (call("scale_out", "101"), "step"), (call("sideways", "1"), "type")]
    {
        assert_eq!(field(&world.service.trigger_fire(&wrong).await.expect_err("refused")), named);
    }
    assert!(shop.take().is_empty());
}

#[tokio::test]
async fn wrong_links_and_secrets_are_told_alike_and_bounded() {
    let (world, shop, id) = shop().await;
    let shown = world.service.trigger_create(&world.ctx, &wanted(&id, "redeploy", None)).await.expect("made");
    let other = Trigger { id: "0000000000000".into(), ..shown.trigger.clone() };
    let renamed = Trigger { action: TriggerAction::Scaling, ..shown.trigger.clone() };
    let mut messages = Vec::new();
    for wrong in [
        Pull { secret: Some("0".repeat(64)), ..pull(&shown) },
        Pull { secret: Some("x".into()), ..pull(&shown) },
        Pull { token: Some(Link::token(&other)), secret: Some("0".repeat(64)), ..Pull::default() },
        Pull { token: Some(Link::token(&renamed)), ..pull(&shown) },
        Pull { token: Some("nonsense".into()), ..pull(&shown) },
    ] {
        let fault = world.service.trigger_fire(&wrong).await.expect_err("refused");
        assert_eq!(fault.kind, FaultKind::Forbidden);
        messages.push(fault.message);
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "{messages:?}");
    let guess = Pull { secret: Some("1".repeat(64)), ..pull(&shown) };
    let mut last = FaultKind::Forbidden;
    for _ in 0..200 {
        last = world.service.trigger_fire(&guess).await.expect_err("refused").kind;
    }
    assert_eq!(last, FaultKind::Throttled, "guessing is slowed down");
    world.service.trigger_fire(&pull(&shown)).await.expect("the owner is not concerned");
    assert_eq!(shop.take().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_leaves_nothing() {
    let (world, _, id) = shop().await;
    let check = async |input: TriggerCreate, named: &str| {
        let fault = world.service.trigger_create(&world.ctx, &input).await.expect_err("refused");
        assert_eq!(field(&fault), named);
    };
    check(wanted(&id, "restart", None), "action").await;
    check(wanted(&id, "scaling", None), "service").await;
    check(wanted(&id, "scaling", Some("cache")), "service").await;
    check(wanted(&id, "redeploy", Some("web")), "service").await;
    check(TriggerCreate { project_id: None, ..wanted(&id, "redeploy", None) }, "project_id").await;
    check(TriggerCreate { project_id: Some("/shop".into()), ..wanted(&id, "redeploy", None) }, "project_id").await;
    check(TriggerCreate { kind: Some("pod".into()), ..wanted(&id, "redeploy", None) }, "type").await;
    check(TriggerCreate { on_image_update: true, ..wanted(&id, "scaling", Some("web")) }, "image_update").await;
    let absent = TriggerCreate { project_id: Some("default/nothing".into()), ..wanted(&id, "redeploy", None) };
    check(absent, "NotFound(\"Application\")").await;
    let nowhere = world.service.trigger_create(&world.ctx, &wanted("c0", "redeploy", None)).await.expect_err("refused");
    assert_eq!(nowhere.kind, FaultKind::ClusterNotFound);
    assert!(world.store.list::<Trigger>().is_empty());
}

#[tokio::test]
async fn a_pushed_image_redeploys_the_applications_that_use_it() {
    let (world, shop, id) = shop().await;
    let linked = TriggerCreate { on_image_update: true, ..wanted(&id, "redeploy", None) };
    world.service.trigger_create(&world.ctx, &linked).await.expect("made");
    // A second one of the same application does not deploy it twice.
    world.service.trigger_create(&world.ctx, &linked).await.expect("made");
    world.service.trigger_create(&world.ctx, &wanted(&id, "redeploy", None)).await.expect("made");
    assert_eq!(world.service.image_pushed("shop/web", "2").await, 0);
    assert_eq!(world.service.image_pushed("mysql", "5.7").await, 0, "not of our registry");
    assert_eq!(world.service.image_pushed("shop/web", "1").await, 1);
    assert_eq!(shop.take(), ["redeploy shop of harbour"]);
}
