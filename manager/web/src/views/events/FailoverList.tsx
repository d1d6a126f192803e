import { useState } from "react";
import type { Failover, Step } from "../../api/types";
import { clock, duration } from "../../state/format";
import { useManaged } from "../../state/manager";
import { Icon } from "../../ui/icons";
import { Badge, Empty, Panel, Skeleton, type Tone } from "../../ui/parts";
import { Moment, Text } from "../../ui/Text";
import { share, toneOfStep } from "./timeline";

const tones: Record<Failover["outcome"], Tone> = { done: "ok", "under way": "accent", "given up": "error" };

export function FailoverList() {
  const failovers = useManaged((s) => s.known.failovers);
  const [limit, setLimit] = useState(5);
  return (
    <Panel title="Failovers and switchovers" flush>
      {failovers === null ? (
        <Skeleton rows={3} />
      ) : failovers.length === 0 ? (
        <Empty title="No failover since pgherd began">Each is drawn here step by step, with how long it took.</Empty>
      ) : (
        <div className="failovers">
          {failovers.slice(0, limit).map((failover, i) => (
            <One key={failover.id} failover={failover} open={i === 0} />
          ))}
          {failovers.length > limit && (
            <button type="button" className="link more" onClick={() => setLimit(limit + 20)}>
              {failovers.length - limit} more
            </button>
          )}
        </div>
      )}
    </Panel>
  );
}

function One({ failover, open }: { failover: Failover; open: boolean }) {
  const { kind, from, to, outcome, began, seconds, writes_closed_seconds: closed, steps } = failover;
  return (
    <details className="failover" open={open}>
      <summary>
        <Icon name="down" className="turner" />
        <span className="failover-head">
          <b>{kind === "start" ? "Start" : kind === "failover" ? "Failover" : "Switchover"}</b>
          <NodeName id={from} />
          <span aria-hidden="true">→</span>
          <span className="unseen">to</span>
          <NodeName id={to} />
          <Badge tone={tones[outcome]}>{outcome}</Badge>
        </span>
        <span className="failover-facts">
          <Moment at={began} />
          <span className="number" title={`${seconds} s`}>took {duration(seconds)}</span>
          {closed !== null && <span className="number" title={`${closed} s`}>no writes for {duration(closed)}</span>}
        </span>
        <Bar steps={steps} running={outcome === "under way"} />
      </summary>
      <StepList steps={steps} />
    </details>
  );
}

function Bar({ steps, running }: { steps: Step[]; running: boolean }) {
  return (
    <span className={`timeline ${running ? "running" : ""}`} role="img" aria-label={steps.map((s) => `${s.state} ${duration(s.seconds)}`).join(", ")}>
      {steps.map((step, i) => (
        <span key={i} className={`segment ${toneOfStep(step.state)}`} style={{ flexGrow: share(step, steps) }} title={`${step.state}: ${duration(step.seconds)}`}>
          <span>{step.state}</span>
        </span>
      ))}
    </span>
  );
}

function StepList({ steps }: { steps: Step[] }) {
  let offset = 0;
  return (
    <ol className="step-list">
      {steps.map((step, i) => {
        const began = offset;
        offset += step.seconds;
        return (
          <li key={i}>
            <span className={`step-swatch ${toneOfStep(step.state)}`} aria-hidden="true" />
            <b>{step.state}</b>
            <time className="number faint" dateTime={step.began} title={step.began}>{clock(step.began)}</time>
            <span className="number faint" title="since it began">+{duration(began)}</span>
            <span className="number step-seconds" title={`${step.seconds} s`}>{duration(step.seconds)}</span>
            <Text className="step-what">{step.what}</Text>
          </li>
        );
      })}
    </ol>
  );
}

function NodeName({ id }: { id: number | null }) {
  const name = useManaged((s) => s.known.herd?.nodes.find((n) => n.id === id)?.name);
  if (id === null) return <span className="faint">nobody</span>;
  return <Text className="failover-node">{name ?? `node ${id}`}</Text>;
}
