#!/bin/sh
# The first program of a client: loads the drivers, sets the address, runs the script.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /mnt
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp

result() {
    echo "BASALT-RESULT $1"
    sync
    poweroff -f
    sleep 60
}

# step NAME COMMAND...: runs it; a failure ends the script.
step() {
    local name=$1 code
    shift
    "$@"
    code=$?
    if [ "$code" -eq 0 ]; then
        echo "BASALT-STEP-OK $name."
        return 0
    fi
    echo "BASALT-STEP-FAILED $name with $code."
    dmesg | tail -n 40
    result "$code"
}

# waits SECONDS COMMAND...: until the command succeeds.
waits() {
    local left=$(($1 * 10))
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 0.1
    done
}

# parameters MODULE: those of the kernel's command line that are for it.
parameters() {
    local word
    for word in $(cat /proc/cmdline); do
        case $word in
        "$1".*) echo "${word#*.}" ;;
        esac
    done
}

while read -r module; do
    step "load-$module" insmod "/modules/$module.ko" $(parameters "$module")
done </modules/order

step loopback ip link set lo up
for word in $(cat /proc/cmdline); do
    case $word in
    basalt.address=*)
        step link ip link set eth0 up
        step address ip address add "${word#basalt.address=}" dev eth0
        ;;
    esac
done

. /script
result 0
