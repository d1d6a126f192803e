import { memo, useEffect, useRef } from "react";
import type { Order } from "../api/types";
import { clock } from "../state/format";
import { useManaged, useManager } from "../state/manager";
import { visible } from "../state/visible";
import { Button } from "../ui/controls";
import { Dot, Empty } from "../ui/parts";
import { Ago, Cut, Text } from "../ui/Text";
import { catalogue, target } from "./catalogue";

const tones = { running: "accent", done: "ok", failed: "error" } as const;
const states = { running: "Running", done: "Done", failed: "Failed" } as const;

/** The orders of late, and what the chosen one says, line by line. */
export function Console() {
  const manager = useManager();
  const { open, order: chosen } = useManaged((s) => s.console);
  const orders = useManaged((s) => s.known.orders);
  const order = orders.find((o) => o.id === chosen) ?? orders[0];
  useOverheard(order);
  if (!open) return null;
  return (
    <section
      className="console"
      aria-label="Console"
      onKeyDown={(event) => {
        if (event.key === "Escape") manager.showConsole(false);
      }}
    >
      <header className="console-head">
        <h2>Console</h2>
        {order && <Outcome order={order} />}
        <Button kind="quiet" small icon="close" aria-label="Close the console" onClick={() => manager.showConsole(false)} />
      </header>
      {order ? (
        <div className="console-body">
          <nav className="console-orders" aria-label="Orders">
            {orders.slice(0, 30).map((o) => (
              <button key={o.id} type="button" aria-current={o.id === order.id} onClick={() => manager.showConsole(true, o.id)}>
                <Dot tone={tones[o.state]} />
                <span className="console-order">
                  <OrderName order={o} />
                  <span className="console-by">
                    <Text>{o.by}</Text>, <Ago at={o.at} />
                  </span>
                </span>
              </button>
            ))}
          </nav>
          <Lines order={order} />
        </div>
      ) : (
        <Empty icon="console" title="No orders yet">
          What an order does is shown here, line by line.
        </Empty>
      )}
    </section>
  );
}

function OrderName({ order }: { order: Order }) {
  const nodes = useManaged((s) => s.known.herd?.nodes);
  const nameOf = (id: number) => visible(nodes?.find((n) => n.id === id)?.name ?? `node ${id}`);
  const request = order.request ?? { action: order.action, ...(order.node === null ? {} : { node: order.node }) };
  const says = catalogue[order.action]?.does(target(request, nameOf)) ?? order.action;
  return <Cut className="order-name">{says}</Cut>;
}

function Outcome({ order }: { order: Order }) {
  return (
    <span className={`outcome ${tones[order.state]}`} role="status">
      <Dot tone={tones[order.state]} />
      <OrderName order={order} />
      <b>{states[order.state]}</b>
    </span>
  );
}

const Lines = memo(function Lines({ order }: { order: Order }) {
  const box = useRef<HTMLDivElement>(null);
  const follow = useRef(true);
  useEffect(() => {
    // Who has scrolled up to read is not taken away from there.
    if (follow.current) box.current?.scrollTo({ top: box.current.scrollHeight });
  }, [order]);
  return (
    <div
      ref={box}
      className="console-lines"
      role="log"
      aria-label={`Output of ${visible(order.action)}`}
      tabIndex={0}
      onScroll={({ currentTarget: b }) => {
        follow.current = b.scrollTop + b.clientHeight >= b.scrollHeight - 24;
      }}
    >
      {order.lines.map((line, i) => (
        <p key={i}>
          <time dateTime={line.at} title={line.at}>{clock(line.at)}</time>
          <Text layout>{line.text}</Text>
        </p>
      ))}
      {order.state === "running" ? (
        <p className="console-running">…</p>
      ) : (
        <p className={`console-result ${tones[order.state]}`}>
          <time />
          <Text layout>{order.result ?? states[order.state]}</Text>
        </p>
      )}
    </div>
  );
});

/** While nothing is pushed, the order's progress is asked for. */
function useOverheard(order: Order | undefined): void {
  const manager = useManager();
  const lost = useManaged((s) => s.link.state !== "live");
  const id = order?.state === "running" ? order.id : null;
  useEffect(() => {
    if (!lost || id === null) return;
    const timer = window.setInterval(async () => {
      const said = await manager.api.get<Order>(`orders/${id}`).catch(() => null);
      if (said) manager.learned([said]);
    }, 1000);
    return () => window.clearInterval(timer);
  }, [manager, lost, id]);
}
