/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sends frames of so many bytes by eth0, for ever, to a hardware address that nobody has.
 *
 * A frame that is longer than the wire takes is one that a network card would cut up: this is what
 * a guest hands over when it sends a stream.
 */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ON_THE_WIRE 1514
#define SEGMENT 1448
#define HEADERS (14 + 20 + 20)

struct message {
	struct virtio_net_hdr offload;
	unsigned char frame[65536];
} __attribute__((packed));

static struct message message;

static void fill(size_t size)
{
	static const unsigned char to[] = {2, 0, 0, 0, 0, 9}, from[] = {2, 0, 0, 0, 0, 2};
	struct iphdr ip = {
		.version = 4, .ihl = 5, .tot_len = htons(size - 14), .ttl = 64,
		.protocol = size > ON_THE_WIRE ? IPPROTO_TCP : IPPROTO_UDP,
		.saddr = htonl(0x0a000002), .daddr = htonl(0x0a000009),
	};

	memcpy(message.frame, to, 6);
	memcpy(message.frame + 6, from, 6);
	message.frame[12] = 0x08; /* IPv4 */
	memcpy(message.frame + 14, &ip, sizeof(ip));
	message.frame[14 + 20 + 12] = 0x50; /* TCP's header is 20 bytes */
	if (size > ON_THE_WIRE)
		message.offload = (struct virtio_net_hdr){
			.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16,
			.gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .gso_size = SEGMENT,
			.hdr_len = HEADERS,
		};
}

int main(int argc, char **argv)
{
	size_t size = argc > 1 ? strtoul(argv[1], NULL, 10) : 1400;
	struct sockaddr_ll address = {.sll_family = AF_PACKET};
	int fd = socket(AF_PACKET, SOCK_RAW, 0), one = 1;

	address.sll_ifindex = if_nametoindex("eth0");
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one))) {
		perror("eth0");
		return 1;
	}
	fill(size);
	for (;;)
		if (send(fd, &message, sizeof(message.offload) + size, 0) < 0)
			usleep(1000);
}
