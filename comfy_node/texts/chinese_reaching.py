"""The Chinese sentences about reaching a worker, and about losing it."""

from __future__ import annotations

REACHING = {
    "the connection timed out": "连接超时",
    "No ovis-worker answers at {address}: {why}.": "{address} 上没有 ovis-worker 应答：{why}。",
    "Another program answers at {address}.": "{address} 上应答的是其他程序。",
    "Another program answers at {address} (HTTP status {status}).": (
        "{address} 上应答的是其他程序（HTTP 状态 {status}）。"
    ),
    "Correct the address, or give the worker another port with --listen.": (
        "请更正地址，或用 --listen 给 Ovis 服务换一个端口。"
    ),
    "The worker at {address} speaks protocol version {theirs}, this node pack version {ours}.": (
        "{address} 上的 Ovis 服务使用协议版本 {theirs}，本节点包使用版本 {ours}。"
    ),
    "Update the worker, which is the older of the two: on its machine, run `pip install "
    "--upgrade {package}`, or `git pull` and the build in its clone; then restart it.": (
        "请更新 Ovis 服务，它较旧：在它所在的机器上运行 `pip install --upgrade {package}`，"
        "或在其克隆目录中运行 `git pull` 并重新编译，然后重启它。"
    ),
    "Update the worker, which is the older of the two: run `{command}`, and restart it in the "
    "Ovis tab of the sidebar.": (
        "请更新 Ovis 服务，它较旧：运行 `{command}`，然后在侧边栏的 Ovis 标签页中重启它。"
    ),
    "Update the worker, which is the older of the two: replace {binary} by a newer version, and "
    "restart it in the Ovis tab of the sidebar.": (
        "请更新 Ovis 服务，它较旧：用新版本替换 {binary}，然后在侧边栏的 Ovis 标签页中重启它。"
    ),
    "Update the node pack, which is the older of the two: run `{command}`, and restart ComfyUI.": (
        "请更新节点包，它较旧：运行 `{command}`，然后重启 ComfyUI。"
    ),
    "Update the node pack, which is the older of the two: in ComfyUI's manager, or run "
    "`{command}`; then restart ComfyUI.": (
        "请更新节点包，它较旧：在 ComfyUI 的管理器中更新，或运行 `{command}`，然后重启 ComfyUI。"
    ),
    "A proxy at {address} asks for a login (HTTP status {status}).": (
        "{address} 上的代理要求登录（HTTP 状态 {status}）。"
    ),
    "Write the address with its login: wss://USER:PASSWORD@HOST:PORT": (
        "请在地址中写上登录信息：wss://USER:PASSWORD@HOST:PORT"
    ),
    "{address} redirects to another page, such as a login page (HTTP status {status}).": (
        "{address} 重定向到另一个页面，例如登录页（HTTP 状态 {status}）。"
    ),
    "{address} refuses the connection (HTTP status 403).": (
        "{address} 拒绝了此连接（HTTP 状态 403）。"
    ),
    "Start the worker with --allowed-host and this host name. If a proxy requires a login, "
    "add it to the address: wss://USER:PASSWORD@HOST:PORT": (
        "请用 --allowed-host 加上此主机名启动 Ovis 服务，或在地址中写上代理要求的登录信息："
        "wss://USER:PASSWORD@HOST:PORT"
    ),
    "it is shutting down, or a proxy reports it as unavailable (HTTP status 503)": (
        "它正在停止，或代理报告它不可用（HTTP 状态 503）"
    ),
    "There is no ovis-worker at {address} with the path {path} (HTTP status 404).": (
        "{address} 的路径 {path} 上没有 ovis-worker（HTTP 状态 404）。"
    ),
    "Add the worker's path to the address, such as wss://HOST/ovis/ws. If the path is right, "
    "another program uses the port.": (
        "请在地址中写上 Ovis 服务的路径，例如 wss://HOST/ovis/ws；也可能是其他程序占用了该端口。"
    ),
    "{address} does not accept a websocket (HTTP status {status}).": (
        "{address} 不接受 websocket（HTTP 状态 {status}）。"
    ),
    "Configure the proxy in front of the worker to forward websockets; for nginx: "
    "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header "
    'Connection "upgrade";': (
        "请让 Ovis 服务前面的代理转发 websocket；nginx 的写法：proxy_http_version 1.1; "
        'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'
    ),
    "The certificate of {address} is not trusted on this machine: {why}.": (
        "本机不信任 {address} 的证书：{why}。"
    ),
    "Use a certificate that a known authority has issued for this host name, or set the "
    "environment variable SSL_CERT_FILE of ComfyUI to the certificate's file.": (
        "请使用公认机构为此主机名签发的证书，或在 ComfyUI 的环境变量 SSL_CERT_FILE 中指定证书文件。"
    ),
    "{address} does not use TLS.": "{address} 没有使用 TLS。",
    "Write the address with ws:// instead of wss://: ws://{address}": (
        "请把地址中的 wss:// 改为 ws://：ws://{address}"
    ),
    "The TLS connection to {address} failed: {why}.": "无法与 {address} 建立 TLS 连接：{why}。",
    "Check the TLS settings of the proxy in front of the worker.": (
        "请检查 Ovis 服务前面的代理的 TLS 设置。"
    ),
    "{address} accepts only TLS connections.": "{address} 只接受 TLS 连接。",
    "Write the address with wss:// instead of ws://: wss://{address}": (
        "请把地址中的 ws:// 改为 wss://：wss://{address}"
    ),
    "the address is invalid": "地址无效",
    "a proxy answers with HTTP status {status}": "代理的应答是 HTTP 状态 {status}",
    "it accepts connections, but sends no hello": "它接受连接，但未收到握手响应",
    "it closed the connection before it sent its hello": "它在握手响应之前关闭了连接",
    "The worker at {address} refused the request: {words}": (
        "{address} 上的 Ovis 服务拒绝了请求：{words}"
    ),
    "Use a host name that the worker was started with (--allowed-host), or its IP address.": (
        "请使用启动 Ovis 服务时用 --allowed-host 指定的主机名，或它的 IP 地址。"
    ),
    "The connection to the worker at {address} was closed by the node pack.": (
        "与 {address} 上 Ovis 服务的连接已由节点包关闭。"
    ),
    "Run the workflow again.": "请重新运行工作流。",
    # Certificates
    "The certificate of {address} has the fingerprint {seen}, but the settings expect "
    "{expected}.": "{address} 的证书指纹是 {seen}，而设置要求的是 {expected}。",
    "Nothing was sent. If the worker was given a new certificate, compare this fingerprint with "
    "the one in the worker's log and put it into the settings; otherwise, another program may be "
    "posing as the worker.": (
        "没有发送任何内容。如果 Ovis 服务换了证书，请与它日志中的指纹核对，一致后填入设置；"
        "否则可能有其他程序在冒充它。"
    ),
    "If the worker made its certificate itself, compare the fingerprint {seen} with the one in "
    "the worker's log, and put it into the settings if they are equal. {otherwise}": (
        "如果证书是 Ovis 服务自己生成的，请将指纹 {seen} 与它日志中的指纹核对，一致则填入设置。"
        "{otherwise}"
    ),
    "`{text}` is not the fingerprint of a certificate.": "“{text}”不是证书指纹。",
    "Copy the SHA-256 fingerprint from the worker's log: 64 hexadecimal digits, with or without "
    "colons.": "请从 Ovis 服务的日志中复制 SHA-256 指纹：64 位十六进制数字，有无冒号均可。",
    "The worker `{label}` has a certificate's fingerprint, but its address {url} does not use "
    "TLS.": "Ovis 服务“{label}”设置了证书指纹，但地址 {url} 没有使用 TLS。",
    "Write the address with wss:// instead of ws://, or remove the fingerprint.": (
        "请把地址中的 ws:// 改为 wss://，或删除指纹。"
    ),
    # Losing it
    "The connection to the worker at {address} was lost during the job.": (
        "任务运行期间，与 {address} 上的服务断开了连接。"
    ),
    "The connection to the worker at {address} was lost.": (
        "与 {address} 上 Ovis 服务的连接断开了。"
    ),
    "The worker at {address} is shutting down.": "{address} 上的 Ovis 服务正在关闭。",
    "See the worker's log; if it ended by itself, its last lines say why.": (
        "请查看 Ovis 服务的日志；如果它自行退出，最后几行会说明原因。"
    ),
    "{lost} Waiting for it to answer again.": "{lost}正在等待它恢复。",
    "{lost} Still unreachable after {time}.": "{lost}{time}后仍未恢复。",
    "{lost} Trying to reconnect for up to {time}.": "{lost}正在尝试重新连接，最长 {time}。",
    "{lost} The job goes on there; trying to reconnect for up to {time}.": (
        "{lost}任务在那里继续运行；正在尝试重新连接，最长 {time}。"
    ),
    "{lost} The job is sent when the worker answers again, within {time}.": (
        "{lost}服务在 {time}内恢复后，将发送此任务。"
    ),
    "{seconds:.0f} seconds": "{seconds:.0f} 秒",
    "{minutes:.0f} minutes": "{minutes:.0f} 分钟",
    "The worker is full; trying again in {seconds:.0f} s.": (
        "Ovis 服务已满，{seconds:.0f} 秒后重试。"
    ),
    "{address} asks to try again later (HTTP status {status}).": (
        "{address} 要求稍后再试（HTTP 状态 {status}）。"
    ),
    "Run the workflow again when fewer jobs are waiting there.": (
        "请等那里排队的任务减少后，重新运行工作流。"
    ),
    "Run the workflow again when the worker is back.": "等它恢复后，请重新运行工作流。",
}
