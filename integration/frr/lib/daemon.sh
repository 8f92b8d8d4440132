# What the stand-ins share. FRR's topology tests start daemons by FRR's names with FRR's options; these start ours. They
# hold no logic of their own: what they pass on is parsed and decided by bgpd.
bin=${HOLDFAST_BIN:-/usr/sbin}
run=/var/run/frr
etc=/etc/frr
name=$(basename "$0")
file=$etc/$name.conf
addresses= port= kernel= log=

version() {
    echo "$name version 8.4.4"
    exit 0
}

options() {
    while [ $# -gt 0 ]; do
        case $1 in
        -v | --version) version ;;
        -f | --config_file) file=$2; shift ;;
        -l | --listenon) addresses="$addresses $2"; shift ;;
        -p | --bgp_port) port=$2; shift ;;
        -n | --no_kernel) kernel=--no-kernel ;;
        --log) log=${2#file:}; shift ;;
        -s | -A | -P | -u | -g | -M | -i | -z | -e | -I | -N | --log-level | --vty_socket) shift ;;
        esac
        shift
    done
}

# The pid file appears when the daemon serves.
pid() {
    mkdir -p $run
    echo "$1" > $run/$name.pid
}

# Until bgpd answers, or has ended.
wait_for_bgpd() {
    until [ -S $run/bgpd.sock ] && "$bin/holdfast" --run-dir $run -c 'show running-config' > /dev/null 2>&1; do
        kill -0 "$1" 2> /dev/null || return 1
        sleep 0.05
    done
}

# What FRR's zebra does to links, from the lines of an `interface` section: they are the kernel's, here as there.
links() {
    local interface= first second third rest negate
    while read -r first second third rest; do
        negate=
        if [ "$first" = no ]; then
            negate=no first=$second second=$third third=$rest
        fi
        case "$first $second" in
        "int"*" "*) interface=$second ;;
        "ip a"* | "ipv6 a"*)
            [ -n "$interface" ] || continue
            if [ -n "$negate" ]; then
                ip address del "${third%% *}" dev "$interface" 2> /dev/null
            else
                ip link set dev "$interface" up
                ip address replace "${third%% *}" dev "$interface"
            fi
            ;;
        "shut"*) [ -n "$interface" ] && ip link set dev "$interface" $([ -n "$negate" ] && echo up || echo down) ;;
        "ip "* | "ipv6 "* | "desc"* | "!"* | "#"* | " ") ;;
        *) interface= ;;
        esac
    done
}
