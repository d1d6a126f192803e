import { useEffect, useState } from "react";
import type { OrderRequest } from "../api/client";
import type { DryRun } from "../api/types";
import { useManaged, useManager } from "../state/manager";
import { visible } from "../state/visible";
import { Button, Field } from "../ui/controls";
import { Dialog } from "../ui/Dialog";
import { Note, Skeleton } from "../ui/parts";
import { Text } from "../ui/Text";
import { Guards } from "./Guards";
import { OrderFields } from "./OrderFields";
import { catalogue, complete, sent, target } from "./catalogue";

/** Shows what the order would do, and gives it when that is confirmed. */
export function ActionDialog() {
  const asked = useManaged((s) => s.asked);
  if (!asked) return null;
  return <Asked key={JSON.stringify(asked)} asked={asked} />;
}

function Asked({ asked }: { asked: OrderRequest }) {
  const manager = useManager();
  const [order, setOrder] = useState(asked);
  const [typed, setTyped] = useState("");
  const [sending, setSending] = useState(false);
  const [failed, setFailed] = useState<string | null>(null);
  const dry = useDryRun(order);
  const nodes = useManaged((s) => s.known.herd?.nodes);
  const node = nodes?.find((n) => n.id === order.node);
  const spec = catalogue[order.action];
  if (!spec) return null;
  const does = spec.does(target(order, (id) => visible(nodes?.find((n) => n.id === id)?.name ?? `node ${id}`)));
  const ready = dry.said !== null && dry.said.refused === null;
  const dangerous = ready && dry.said?.dangerous === true;
  const toType = dry.said?.confirm ?? node?.name ?? null;
  const named = !dangerous || (toType !== null && typed.trim() === toType.trim());

  const close = () => manager.ask(null);
  const send = async () => {
    setSending(true);
    setFailed(null);
    try {
      manager.took(await manager.api.order(dangerous && toType !== null ? { ...sent(order), confirm: toType } : sent(order)));
    } catch (error) {
      setFailed((error as Error).message);
      setSending(false);
    }
  };

  return (
    <Dialog
      title={does}
      onClose={close}
      foot={
        <>
          <Button onClick={close}>Leave it</Button>
          <Button kind={spec.danger || dangerous ? "danger" : "primary"} disabled={!ready || !named || sending} onClick={() => void send()} className="confirm">
            {sending ? "Sending…" : does}
          </Button>
        </>
      }
    >
      <p className="dialog-about">{spec.about}</p>
      <OrderFields order={order} onChange={setOrder} fixed={asked} />
      <div className="dry-run" aria-live="polite" aria-busy={dry.busy}>
        {!complete(order) && <p className="dialog-about">Fill in the form, and what would happen is shown here.</p>}
        {dry.failed && <Note tone="error"><Text>{dry.failed}</Text></Note>}
        {complete(order) && !dry.said && !dry.failed && <Skeleton rows={3} />}
        {dry.said && <Said said={dry.said} />}
      </div>
      {dangerous && toType !== null && (
        <Field label={`Data may be lost. Type ${node ? "the server's name" : "this"} to go on`}>
          <code className="to-type"><Text>{toType}</Text></code>
          <input value={typed} onChange={(event) => setTyped(event.target.value)} autoComplete="off" spellCheck={false} aria-label={`Type ${visible(toType)} to go on`} />
        </Field>
      )}
      {failed && <Note tone="error"><Text>{failed}</Text></Note>}
    </Dialog>
  );
}

function Said({ said }: { said: DryRun }) {
  return (
    <>
      {said.refused !== null && <Note tone="error"><b>Refused.</b> <Text>{said.refused}</Text></Note>}
      {said.would && (
        <div className="would">
          <h3>What it would do</h3>
          <p><Text layout>{said.would}</Text></p>
        </div>
      )}
      {said.consequences.length > 0 && (
        <div className="consequences">
          <h3>Consequences</h3>
          <ul>
            {said.consequences.map((text) => (
              <li key={text}><Text>{text}</Text></li>
            ))}
          </ul>
        </div>
      )}
      {said.guards.length > 0 && (
        <div>
          <h3>Guards</h3>
          <Guards guards={said.guards} />
        </div>
      )}
    </>
  );
}

interface Dry {
  said: DryRun | null;
  failed: string | null;
  busy: boolean;
}

/** Asks again a moment after the order was changed. */
function useDryRun(order: OrderRequest): Dry {
  const { api } = useManager();
  const [dry, setDry] = useState<Dry>({ said: null, failed: null, busy: true });
  useEffect(() => {
    if (!complete(order)) {
      setDry({ said: null, failed: null, busy: false });
      return;
    }
    const abort = new AbortController();
    // What was said of another order must not stand there as if it were about this one.
    setDry({ said: null, failed: null, busy: true });
    const timer = window.setTimeout(async () => {
      try {
        const said = await api.dryRun(sent(order), abort.signal);
        setDry({ said, failed: null, busy: false });
      } catch (error) {
        if (!abort.signal.aborted) setDry({ said: null, failed: (error as Error).message, busy: false });
      }
    }, 200);
    return () => {
      abort.abort();
      window.clearTimeout(timer);
    };
  }, [api, order]);
  return dry;
}
