import { useEffect, useRef } from "react";
import { Guards } from "../../actions/Guards";
import { HerdMenu } from "../../actions/NodeActions";
import type { Failover } from "../../api/types";
import { duration } from "../../state/format";
import { useManaged } from "../../state/manager";
import { Badge, Facts, Note, Panel, Skeleton } from "../../ui/parts";
import { Ago, Text } from "../../ui/Text";

export const failoverPath = ["Steady", "Suspect", "Confirm", "Fence", "Freeze", "Elect", "Promote", "Verify", "Swap"];
const aside = ["Discover", "Switchover", "Hold"];

/** The decision machine: where it is on its way through a failover, and why. */
export function MachinePanel() {
  const machine = useManaged((s) => s.known.herd?.machine);
  const timeline = useManaged((s) => s.known.herd?.cluster.timeline ?? null);
  const latest = useManaged((s) => s.known.failovers?.[0]);
  if (!machine) return <Panel title="Failover"><Skeleton rows={3} /></Panel>;
  return (
    <Panel
      title="Failover"
      className="machine"
      aside={
        <>
          {machine.paused && <Badge tone="warning">paused</Badge>}
          <Badge tone={machine.mode === "automatic" ? "plain" : "warning"}>{machine.mode}</Badge>
          <HerdMenu text="Actions" />
        </>
      }
    >
      <Steps state={machine.state} under={latest?.outcome === "under way" ? latest : undefined} />
      <p className="machine-reason">
        <b>{machine.state}</b> for <Ago at={machine.since} plain />: <Text>{machine.reason}</Text>
      </p>
      {machine.advice && <Note tone="warning"><Text>{machine.advice}</Text></Note>}
      {machine.guards.length > 0 && <Guards guards={machine.guards} />}
      {machine.warnings.length > 0 && (
        <ul className="warnings">
          {machine.warnings.map((text) => <li key={text}><Text>{text}</Text></li>)}
        </ul>
      )}
      <Facts
        rows={[
          ["Decides", machine.decides ? "this pgherd" : <Text key="d">{machine.decider ?? "another pgherd"}</Text>],
          ["Epoch", <Text key="e">{machine.epoch}</Text>],
          ["Timeline", timeline ?? "–"],
        ]}
      />
    </Panel>
  );
}

function Steps({ state, under }: { state: string; under: Failover | undefined }) {
  const at = failoverPath.indexOf(state);
  const spent = new Map(under?.steps.map((step) => [step.state, step.seconds]));
  const known = at >= 0 || aside.includes(state);
  const extra = known ? aside : [...aside, state];
  const row = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // On a phone the row is scrolled: the present step is brought into sight, and the page stays where it is.
    const now = row.current?.querySelector<HTMLElement>("[aria-current]");
    if (row.current && now) row.current.scrollLeft = now.offsetLeft - row.current.clientWidth / 2 + now.offsetWidth / 2;
  }, [state]);
  return (
    <div className="steps-row" ref={row} tabIndex={0} role="group" aria-label="State of the failover machine">
      <ol className="steps" aria-label="Steps of a failover">
        {failoverPath.map((step, i) => (
          <Step key={step} name={step} now={step === state} before={i < at || (i > 0 && spent.has(step) && step !== state)} seconds={spent.get(step)} />
        ))}
      </ol>
      <ul className="steps aside" aria-label="Other states">
        {extra.map((step) => (
          <Step key={step} name={step} now={step === state} before={false} seconds={undefined} />
        ))}
      </ul>
    </div>
  );
}

function Step({ name, now, before, seconds }: { name: string; now: boolean; before: boolean; seconds: number | undefined }) {
  const calm = name === "Steady" ? "calm" : name === "Hold" ? "held" : "";
  return (
    <li className={`step ${now ? "now" : ""} ${before ? "before" : ""} ${calm}`} aria-current={now ? "step" : undefined}>
      <span className="step-mark" aria-hidden="true" />
      <span className="step-name">{name}</span>
      <span className="step-time number">{before && seconds !== undefined ? duration(seconds) : "\u00a0"}</span>
    </li>
  );
}
