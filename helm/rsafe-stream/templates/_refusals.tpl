{{/* Values that contradict each other, in one place. Each sentence names the values and says what to do. */}}
{{- define "rsafe.refusals" -}}
{{- $v := .Values -}}
{{- $s := $v.settings -}}
{{- $scaled := ne $v.autoscaling.kind "fixed" -}}
{{- $static := dig "kafka" "group_instance_id" "" $s -}}

{{- if and $static (or (gt (int $v.replicas) 1) $scaled) }}
{{- fail "settings.kafka.group_instance_id: all replicas would be one static member of the group; expected it unset, or replicas: 1 and autoscaling.kind: fixed" }}
{{- end }}
{{- if and $scaled (ne (int $v.replicas) 1) }}
{{- fail (printf "replicas: %d and autoscaling.kind: %s exclude each other: the autoscaler decides; leave replicas at 1 and set autoscaling.minReplicas" (int $v.replicas) $v.autoscaling.kind) }}
{{- end }}
{{- if and $scaled (gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas)) }}
{{- fail "autoscaling.minReplicas is more than autoscaling.maxReplicas; expected at most as many" }}
{{- end }}
{{- if and (eq $v.autoscaling.kind "hpa") $v.autoscaling.keda.scaleToZero }}
{{- fail "autoscaling.keda.scaleToZero: a HorizontalPodAutoscaler cannot start from none; set autoscaling.kind: keda" }}
{{- end }}
{{- if and (eq $v.autoscaling.kind "hpa") (not $v.autoscaling.hpa.targetCPUUtilization) (not $v.autoscaling.hpa.metrics) }}
{{- fail "autoscaling.hpa: nothing says when to scale; set targetCPUUtilization, or metrics" }}
{{- end }}
{{- if and (eq $v.autoscaling.kind "hpa") $v.autoscaling.hpa.targetCPUUtilization (not (dig "requests" "cpu" "" $v.resources)) }}
{{- fail "autoscaling.hpa.targetCPUUtilization is a share of resources.requests.cpu, which is not set; set it, or targetCPUUtilization: 0 and metrics" }}
{{- end }}
{{- if and $v.autoscaling.keda.scaleToZero $v.podDisruptionBudget.enabled $v.podDisruptionBudget.minAvailable }}
{{- fail "podDisruptionBudget.minAvailable and autoscaling.keda.scaleToZero exclude each other: of no workers none can stay; use maxUnavailable" }}
{{- end }}

{{- $least := $scaled | ternary (int $v.autoscaling.minReplicas) (int $v.replicas) -}}
{{- with $v.podDisruptionBudget }}
{{- if and .enabled (ne (toString .minAvailable) "") (ne (toString .maxUnavailable) "") }}
{{- fail "podDisruptionBudget.minAvailable and podDisruptionBudget.maxUnavailable exclude each other; make one of them empty" }}
{{- end }}
{{- if and .enabled (ne (toString .minAvailable) "") (ge (include "rsafe.pods" (dict "count" .minAvailable "of" $least) | int) (max 1 $least | int)) }}
{{- fail (printf "podDisruptionBudget.minAvailable: %v of %d workers may never be evicted, so no node can be drained; expected fewer, or maxUnavailable: 1" .minAvailable $least) }}
{{- end }}
{{- if and .enabled (has (toString .maxUnavailable) (list "0" "0%")) }}
{{- fail "podDisruptionBudget.maxUnavailable: 0 lets no node be drained; expected 1 or more" }}
{{- end }}
{{- end }}
{{- range $name := list "rollout" "guard.rollout" }}
{{- $rollout := include "rsafe.rollout" (eq $name "rollout" | ternary $v $v.guard) | fromYaml }}
{{- if and (has (toString $rollout.maxSurge) (list "0" "0%")) (has (toString $rollout.maxUnavailable) (list "0" "0%")) }}
{{- fail (printf "%s: with maxSurge 0 and maxUnavailable 0, given or by default, no pod could ever be replaced; set the other one to 1 or more as well" $name) }}
{{- end }}
{{- if and $static (eq $name "rollout") (not (has (toString $rollout.maxSurge) (list "0" "0%"))) }}
{{- fail (printf "settings.kafka.group_instance_id: with rollout.maxSurge %v, given or by default, the old and the new worker of an upgrade would be one static member of the group; set rollout: {maxSurge: 0, maxUnavailable: 1}" $rollout.maxSurge) }}
{{- end }}
{{- end }}

{{- $drain := dig "stream" "drain_s" 20 $s | float64 -}}
{{- $poll := divf (dig "kafka" "max_poll_interval_ms" 300000 $s) 2000 -}}
{{- if gt $drain $poll }}
{{- fail (printf "settings.stream.drain_s: %v is more than half of settings.kafka.max_poll_interval_ms, which is %v s: partitions would go to others while their work is finished; expected less, or a longer interval" $drain $poll) }}
{{- end }}
{{- $sum := add $v.preStopSeconds (ceil (dig "stream" "drain_s" 20 $s)) $v.shutdownMarginSeconds -}}
{{- if and $v.terminationGracePeriodSeconds (lt (int $v.terminationGracePeriodSeconds) (int $sum)) }}
{{- fail (printf "terminationGracePeriodSeconds: %d is shorter than preStopSeconds + settings.stream.drain_s + shutdownMarginSeconds, which is %d: the worker would be killed before its last commit; expected that or more, or 0" (int $v.terminationGracePeriodSeconds) (int $sum)) }}
{{- end }}
{{- if gt (dig "guard" "start_timeout_s" 0 $s | float64) (float64 $v.startup.maxSeconds) }}
{{- fail (printf "settings.guard.start_timeout_s: %v is longer than startup.maxSeconds, after which the kubelet restarts the worker; expected less than %d, or a longer startup.maxSeconds" $s.guard.start_timeout_s (int $v.startup.maxSeconds)) }}
{{- end }}
{{- if le (int $v.guard.terminationGracePeriodSeconds) (int $v.guard.preStopSeconds) }}
{{- fail "guard.terminationGracePeriodSeconds is not longer than guard.preStopSeconds: calls that run would be cut off; expected more" }}
{{- end }}

{{- if and (eq $v.image.variant "cpu") (include "rsafe.asksForGpu" $v.resources) }}
{{- fail "resources asks for a GPU, and image.variant is cpu: its vLLM would not use it; name the image for GPUs and set image.variant: gpu" }}
{{- end }}
{{- if and $v.guard.enabled (eq $v.guard.image.variant "cpu") (include "rsafe.asksForGpu" $v.guard.resources) }}
{{- fail "guard.resources asks for a GPU, and guard.image.variant is cpu: its vLLM would not use it; name the image for GPUs and set guard.image.variant: gpu" }}
{{- end }}
{{- if and $v.guard.enabled (eq $v.guard.image.variant "gpu") (not (include "rsafe.asksForGpu" $v.guard.resources)) }}
{{- fail "guard.image.variant is gpu, and guard.resources asks for none: vLLM would find no device; set guard.resources.limits, such as nvidia.com/gpu: 1, or guard.image.variant: cpu" }}
{{- end }}
{{- if and $v.guard.enabled (eq $v.guard.image.variant "gpu") (ne $v.image.variant "gpu") (not (or $v.guard.image.repository $v.guard.image.tag $v.guard.image.digest)) }}
{{- fail "guard.image.variant is gpu, and guard.image names no image of its own while image.variant is cpu; set guard.image.tag or guard.image.digest to the image for GPUs" }}
{{- end }}

{{- if and $v.guard.enabled (ne (dig "guard" "engine" "remote" $s) "remote") }}
{{- fail (printf "guard.enabled and settings.guard.engine: %s exclude each other: the workers ask the servers; leave the engine unset" (dig "guard" "engine" "" $s)) }}
{{- end }}
{{- if and $v.guard.enabled (dig "guard" "endpoints" "" $s) }}
{{- fail "guard.enabled and settings.guard.endpoints exclude each other: the chart names its own servers; leave one of them out" }}
{{- end }}
{{- if and (not $v.guard.enabled) (eq (dig "guard" "engine" "vllm" $s) "remote") (not (dig "guard" "endpoints" "" $s)) }}
{{- fail "settings.guard.engine: remote needs servers: set settings.guard.endpoints, or guard.enabled: true" }}
{{- end }}

{{- if and $v.checkpoint.existingClaim $v.checkpoint.image.reference }}
{{- fail "checkpoint.existingClaim and checkpoint.image.reference exclude each other; make one of them empty" }}
{{- end }}
{{- if and (include "rsafe.mountedCheckpoint" .) (hasKey (default dict $s.guard) "checkpoint") }}
{{- fail "settings.guard.checkpoint and checkpoint.existingClaim or checkpoint.image exclude each other: the chart sets the path of the mounted folder" }}
{{- end }}
{{- if and $v.checkpoint.path (not (include "rsafe.mountedCheckpoint" .)) }}
{{- fail "checkpoint.path is a folder in checkpoint.existingClaim or checkpoint.image.reference, and neither is set" }}
{{- end }}
{{- if and $v.checkpoint.digest (hasKey (default dict $s.guard) "checkpoint_digest") }}
{{- fail "settings.guard.checkpoint_digest and checkpoint.digest exclude each other: the chart sets it" }}
{{- end }}
{{- if and $v.checkpoint.image.reference (semverCompare "<1.33-0" .Capabilities.KubeVersion.Version) }}
{{- fail (printf "checkpoint.image: Kubernetes %s has no image volumes for this; expected 1.33 or later, or checkpoint.existingClaim" .Capabilities.KubeVersion.Version) }}
{{- end }}

{{- if and $v.policies.files $v.policies.existingConfigMap }}
{{- fail "policies.files and policies.existingConfigMap exclude each other; make one of them empty" }}
{{- end }}
{{- if and (include "rsafe.policiesConfigMap" .) (hasKey (default dict $s.policies) "path") }}
{{- fail "settings.policies.path and policies.files or policies.existingConfigMap exclude each other: the chart sets the path of the mounted folder" }}
{{- end }}
{{- if and (include "rsafe.policiesConfigMap" .) (eq (dig "policies" "source" "files" $s) "topic") }}
{{- fail "settings.policies.source: topic and policies.files or policies.existingConfigMap exclude each other: publish the policies instead" }}
{{- end }}

{{- if and $v.guard.enabled $v.tls.guard.existingSecret }}
{{- fail "guard.enabled and tls.guard.existingSecret exclude each other: workers ask the chart's servers by http, and refuse certificates for that; leave one of them out" }}
{{- end }}
{{- range $link, $tls := $v.tls -}}
{{- if and $tls.existingSecret (ne (empty $tls.certificate) (empty $tls.key)) -}}
{{- fail (printf "tls.%s.certificate and tls.%s.key belong together: neither is of use alone; set both, or leave both empty" $link $link) -}}
{{- end -}}
{{- range $file, $key := dict "ca" $tls.ca "certificate" $tls.certificate "key" $tls.key -}}
{{- $name := printf "%sssl_%s_location" (eq $link "guard" | ternary "endpoint_" "") $file -}}
{{- if and $tls.existingSecret $key (hasKey (default dict (get $s $link)) $name) -}}
{{- fail (printf "settings.%s.%s and tls.%s.existingSecret exclude each other: the chart sets the path of the mounted file" $link $name $link) -}}
{{- end -}}
{{- end -}}
{{- end }}
{{- if and (hasPrefix "SASL" (dig "kafka" "security_protocol" "" $s)) (not $v.secrets.kafkaSaslPassword.existingSecret) }}
{{- fail "settings.kafka.security_protocol asks for SASL, and secrets.kafkaSaslPassword.existingSecret is empty; name the Secret that holds the password" }}
{{- end }}
{{- if and (hasPrefix "SASL" (dig "kafka" "security_protocol" "" $s)) (not (dig "kafka" "sasl_mechanism" "" $s)) }}
{{- fail "settings.kafka.sasl_mechanism is empty, and settings.kafka.security_protocol asks for SASL; expected PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512" }}
{{- end }}
{{- if and (hasPrefix "SASL" (dig "kafka" "security_protocol" "" $s)) (not (dig "kafka" "sasl_username" "" $s)) }}
{{- fail "settings.kafka.sasl_username is empty, and settings.kafka.security_protocol asks for SASL; expected the user whose password secrets.kafkaSaslPassword holds" }}
{{- end }}
{{- if and (eq (dig "kafka" "delivery" "at-least-once" $s) "exactly-once") (le (int (dig "kafka" "replication_factor" 1 $s)) 1) $v.topics.create (gt $least 1) }}
{{- fail "settings.kafka.delivery: exactly-once with topics of one copy promises what one lost broker breaks; set settings.kafka.replication_factor: 3, or topics.create: false where the topics are yours" }}
{{- end }}

{{- if eq (dig "kafka" "delivery" "at-least-once" $s) "exactly-once" }}
{{- $commit := dig "stream" "commit_interval_ms" 500 $s | float64 }}
{{- $delivery := dig "kafka" "delivery_timeout_ms" 120000 $s | float64 }}
{{- if ge $commit $delivery }}
{{- fail (printf "settings.stream.commit_interval_ms: with settings.kafka.delivery exactly-once a transaction lasts %v ms and settings.kafka.delivery_timeout_ms gives up after %v; expected a shorter interval" $commit $delivery) }}
{{- end }}
{{- end }}
{{- if eq (dig "health" "port" 8080 $s | int) 0 }}
{{- fail "settings.health.port: 0 takes any free port, which probes and Prometheus do not know; expected 1 or more" }}
{{- end }}
{{- if or (hasPrefix "127." (dig "health" "host" "127.0.0.1" $s)) (has (dig "health" "host" "127.0.0.1" $s) (list "localhost" "::1")) }}
{{- fail "settings.health.host: neither probes nor Prometheus reach a loopback address in a pod; expected 0.0.0.0" }}
{{- end }}
{{- if $v.guard.enabled }}
{{- range $v.guard.args }}
{{- if hasPrefix "--ssl" . }}
{{- fail (printf "guard.args: %s: workers and probes ask the chart's servers by http; leave it out, or run the servers yourself and set settings.guard.endpoints" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $v.networkPolicy.enabled (not $v.networkPolicy.kafka.ports) (eq (include "rsafe.portsOf" (dig "kafka" "bootstrap_servers" "" $s)) "[]") }}
{{- fail "networkPolicy.kafka.ports: settings.kafka.bootstrap_servers names no port that could be allowed; set the ports" }}
{{- end }}
{{- if and $v.monitoring.podMonitor.enabled $v.monitoring.serviceMonitor.enabled }}
{{- fail "monitoring.podMonitor and monitoring.serviceMonitor would count everything twice; enable one of them" }}
{{- end }}
{{- if and $v.monitoring.serviceMonitor.enabled (not $v.service.enabled) }}
{{- fail "monitoring.serviceMonitor needs service.enabled: true, or use monitoring.podMonitor" }}
{{- end }}

{{- with $v.conduct }}
{{- $partitions := int (dig "kafka" "partitions" 6 $s) }}
{{- if and .enabled (gt (int .replicas) $partitions) }}
{{- fail (printf "conduct.replicas: %d processes share settings.kafka.partitions: %d, and one without partitions is never ready; expected at most as many, or the setting as the topics are" (int .replicas) $partitions) }}
{{- end }}
{{- if and .enabled (eq (dig "conduct" "group_id" "rsafe-conduct" $s) (dig "kafka" "group_id" "rsafe-moderation" $s)) }}
{{- fail "settings.conduct.group_id and settings.kafka.group_id are one group: workers and conduct would take partitions from each other; expected two names" }}
{{- end }}
{{- if and .enabled (hasKey (default dict $s.conduct) "state_folder") }}
{{- fail "settings.conduct.state_folder and conduct.enabled exclude each other: the chart sets the path of the mounted store" }}
{{- end }}
{{- if and .enabled .store.persistent (not .store.size) }}
{{- fail "conduct.store.size: a claim asks for a size, and it is empty; set it, such as 8Gi, or conduct.store.persistent: false" }}
{{- end }}
{{- if and .enabled .store.storageClassName (not .store.persistent) }}
{{- fail "conduct.store.storageClassName is of claims, and conduct.store.persistent is false; make it empty, or set persistent: true" }}
{{- end }}
{{- if lt (int .terminationGracePeriodSeconds) (int (add .preStopSeconds 30)) }}
{{- fail (printf "conduct.terminationGracePeriodSeconds: %d leaves less than 30 s after conduct.preStopSeconds: %d, and the record in hand alone may take 20; expected %d or more" (int .terminationGracePeriodSeconds) (int .preStopSeconds) (add .preStopSeconds 30)) }}
{{- end }}
{{- if and .enabled (include "rsafe.asksForGpu" .resources) }}
{{- fail "conduct.resources asks for a GPU, which counting has no use for; leave it out" }}
{{- end }}
{{- end }}

{{- with $v.trainer }}
{{- if and .enabled (not .output.existingClaim) }}
{{- fail "trainer.output.existingClaim: a run takes hours and its checkpoint has to outlive the pod; name a PersistentVolumeClaim" }}
{{- end }}
{{- if and .enabled (not (or .image.repository .image.tag .image.digest)) }}
{{- fail "trainer.image: the image of the worker has no trainer; build one with MORE=train and name its repository, tag or digest" }}
{{- end }}
{{- if and .enabled (eq .image.variant "cpu") (include "rsafe.asksForGpu" .resources) }}
{{- fail "trainer.resources asks for a GPU, and trainer.image.variant is cpu; name the image for GPUs and set trainer.image.variant: gpu" }}
{{- end }}
{{- end }}

{{- range concat $v.extraEnv $v.guard.extraEnv $v.conduct.extraEnv $v.trainer.extraEnv }}
{{- if hasPrefix "RSAFE_" .name }}
{{- fail (printf "extraEnv: %s: use settings or secrets, which are checked" .name) }}
{{- end }}
{{- end }}
{{- end -}}
