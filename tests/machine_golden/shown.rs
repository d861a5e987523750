//! Moments, inputs and actions as a person reads them.

use tenure::lease::{Acquired, Hint, Renewed};
use tenure::machine::{Action, Input};
use tenure::time::Moment;

pub fn show(moment: Moment) -> String {
    let text = format!("{:.3}", moment.as_nanos() as f64 / 1e6);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub fn show_input(input: &Input) -> String {
    match input {
        Input::Wake => "wake".into(),
        Input::Acquired(call, Ok(Acquired::Won { epoch, left })) => {
            format!("acquire #{}: won epoch {epoch}, {left:?} left", call.0)
        }
        Input::Acquired(call, Ok(Acquired::Held { holder, left })) => {
            let (epoch, node) = (holder.epoch, &holder.profile.node);
            format!(
                "acquire #{}: held by {node}, epoch {epoch}, {left:?} left",
                call.0
            )
        }
        Input::Acquired(call, Ok(Acquired::Hold { retry_in, why })) => {
            format!("acquire #{}: hold, {retry_in:?} left: {why}", call.0)
        }
        Input::Acquired(call, Err(error)) => format!("acquire #{}: {error}", call.0),
        Input::Renewed(call, Ok(Renewed::Kept { left })) => {
            format!("renew #{}: kept, {left:?} left", call.0)
        }
        Input::Renewed(call, Ok(Renewed::Lost(None))) => {
            format!("renew #{}: lost, nobody holds it", call.0)
        }
        Input::Renewed(call, Ok(Renewed::Lost(Some(holder)))) => {
            format!("renew #{}: lost to epoch {}", call.0, holder.epoch)
        }
        Input::Renewed(call, Err(error)) => format!("renew #{}: {error}", call.0),
        Input::Released(call, Ok(answer)) => format!("release #{}: {answer:?}", call.0),
        Input::Released(call, Err(error)) => format!("release #{}: {error}", call.0),
        Input::Hint(Hint::Present(observed)) => match &observed.holder {
            Some((holder, _)) => format!("hint: at present held, epoch {}", holder.epoch),
            None => "hint: at present free".into(),
        },
        Input::Hint(Hint::Began(epoch)) => format!("hint: epoch {epoch} began"),
        Input::Hint(Hint::Ended { epoch, prefer }) => match prefer {
            Some(node) => format!("hint: epoch {epoch} ended, {node} first"),
            None => format!("hint: epoch {epoch} ended"),
        },
        Input::Hint(Hint::Gap) => "hint: gap".into(),
        Input::Observed(call, Ok(observed)) => match &observed.holder {
            Some((holder, left)) => {
                let epoch = holder.epoch;
                format!("observe #{}: held, epoch {epoch}, {left:?} left", call.0)
            }
            None => format!("observe #{}: free", call.0),
        },
        Input::Observed(call, Err(error)) => format!("observe #{}: {error}", call.0),
        Input::Drained(epoch) => format!("drained, epoch {epoch}"),
        Input::AppEnded { epoch, cooldown } => {
            format!("the app of epoch {epoch} ends by itself; last for {cooldown:?}")
        }
        Input::AppUnfit { epoch, cooldown } => {
            format!("the app of epoch {epoch} is unfit and will be ended; last for {cooldown:?}")
        }
        Input::Health(health) if health.healthy => {
            format!("the app is well, score {}", health.score.get())
        }
        Input::Health(_) => "the app is not well".into(),
        Input::Candidacy(true) => "is a candidate".into(),
        Input::Candidacy(false) => "is no candidate".into(),
        Input::StepDown { cooldown, to } => match to {
            Some(node) => format!("step down for {cooldown:?}, to {node}"),
            None => format!("step down for {cooldown:?}"),
        },
        Input::Stop => "stop".into(),
    }
}

pub fn show_action(action: &Action) -> String {
    match action {
        Action::Acquire {
            call,
            floor,
            incumbent,
            hold,
        } => {
            let floor = floor.map_or("none".to_owned(), |floor| floor.to_string());
            let incumbent = if *incumbent { ", as incumbent" } else { "" };
            format!(
                "acquire #{}, floor {floor}, hold {hold:?}{incumbent}",
                call.0
            )
        }
        Action::Observe { call } => format!("observe #{}", call.0),
        Action::Renew { call, epoch } => format!("renew #{}, epoch {epoch}", call.0),
        Action::Release {
            call,
            epoch,
            prefer,
        } => {
            let prefer = prefer.as_ref();
            let prefer = prefer.map_or(String::new(), |node| format!(", {node} first"));
            format!("release #{}, epoch {epoch}{prefer}", call.0)
        }
        Action::Drain => "drain the app".into(),
        Action::Announce(event) => {
            let (kind, why) = (event.kind.as_str(), event.reason.as_str());
            let (from, to, at) = (event.from, event.to, show(event.at));
            let epoch = event
                .epoch
                .map_or(String::new(), |epoch| format!(", epoch {epoch}"));
            format!("announce {kind} ({why}){epoch}: {from} to {to} at {at}")
        }
        Action::WarnSameId(_) => "warn: another session bears this node's id".into(),
        Action::Finished => "finished".into(),
    }
}
