/*
 * Prints size and offsets of the kernel's structs; generate.sh compiles it with its headers.
 * Each statement stands on its own line, so that one which old headers refuse can be removed.
 */
#include <stddef.h>
#include <stdio.h>
#include <linux/blkzoned.h>
#include <linux/io_uring.h>
#include <linux/ublk_cmd.h>
#if __has_include(<linux/io_uring/query.h>)
#include <linux/io_uring/query.h>
#endif

#define MEMBER(type, member) sizeof(((struct type *)0)->member)
#define START(type, member) offsetof(struct type, member)
#define END(type, member) (START(type, member) + MEMBER(type, member))
/* A struct. */
#define S(type) printf("struct %s %zu\n", #type, sizeof(struct type))
/* Its field, under our name for it, and under the header's if that is another. */
#define NAMED(type, field, member) \
	RANGE(type, field, START(type, member), MEMBER(type, member))
#define F(type, field) NAMED(type, field, field)
/* A field of ours that is no single member of the header's. */
#define RANGE(type, field, offset, size) \
	printf("field %s.%s %zu %zu\n", #type, #field, (size_t)(offset), (size_t)(size))

int main(void)
{
	S(ublk_shmem_buf_reg);
	F(ublk_shmem_buf_reg, addr);
	F(ublk_shmem_buf_reg, len);
	F(ublk_shmem_buf_reg, flags);
	F(ublk_shmem_buf_reg, reserved);

	S(ublksrv_ctrl_cmd);
	F(ublksrv_ctrl_cmd, dev_id);
	F(ublksrv_ctrl_cmd, queue_id);
	F(ublksrv_ctrl_cmd, len);
	F(ublksrv_ctrl_cmd, addr);
	F(ublksrv_ctrl_cmd, data);
	F(ublksrv_ctrl_cmd, dev_path_len);
	F(ublksrv_ctrl_cmd, pad);
	F(ublksrv_ctrl_cmd, reserved);

	S(ublksrv_ctrl_dev_info);
	F(ublksrv_ctrl_dev_info, nr_hw_queues);
	F(ublksrv_ctrl_dev_info, queue_depth);
	F(ublksrv_ctrl_dev_info, state);
	F(ublksrv_ctrl_dev_info, io_desc_size);
	F(ublksrv_ctrl_dev_info, max_io_buf_bytes);
	F(ublksrv_ctrl_dev_info, dev_id);
	F(ublksrv_ctrl_dev_info, ublksrv_pid);
	F(ublksrv_ctrl_dev_info, pad1);
	F(ublksrv_ctrl_dev_info, flags);
	F(ublksrv_ctrl_dev_info, ublksrv_flags);
	F(ublksrv_ctrl_dev_info, owner_uid);
	F(ublksrv_ctrl_dev_info, owner_gid);
	F(ublksrv_ctrl_dev_info, reserved1);
	F(ublksrv_ctrl_dev_info, reserved2);

	S(ublksrv_io_desc);
	F(ublksrv_io_desc, op_flags);
	F(ublksrv_io_desc, nr_sectors); /* also nr_zones */
	F(ublksrv_io_desc, start_sector);
	F(ublksrv_io_desc, addr);

	S(ublksrv_io_cmd);
	F(ublksrv_io_cmd, q_id);
	F(ublksrv_io_cmd, tag);
	F(ublksrv_io_cmd, result);
	F(ublksrv_io_cmd, addr); /* also zone_append_lba */

	S(ublk_auto_buf_reg);
	F(ublk_auto_buf_reg, index);
	F(ublk_auto_buf_reg, flags);
	F(ublk_auto_buf_reg, reserved0);
	F(ublk_auto_buf_reg, reserved1);

	S(ublk_elem_header);
	F(ublk_elem_header, tag);
	F(ublk_elem_header, buf_index);
	F(ublk_elem_header, result);

	S(ublk_batch_io);
	F(ublk_batch_io, q_id);
	F(ublk_batch_io, flags);
	F(ublk_batch_io, nr_elem);
	F(ublk_batch_io, elem_bytes);
	F(ublk_batch_io, reserved);
	F(ublk_batch_io, reserved2);

	S(ublk_param_basic);
	F(ublk_param_basic, attrs);
	F(ublk_param_basic, logical_bs_shift);
	F(ublk_param_basic, physical_bs_shift);
	F(ublk_param_basic, io_opt_shift);
	F(ublk_param_basic, io_min_shift);
	F(ublk_param_basic, max_sectors);
	F(ublk_param_basic, chunk_sectors);
	F(ublk_param_basic, dev_sectors);
	F(ublk_param_basic, virt_boundary_mask);

	S(ublk_param_discard);
	F(ublk_param_discard, discard_alignment);
	F(ublk_param_discard, discard_granularity);
	F(ublk_param_discard, max_discard_sectors);
	F(ublk_param_discard, max_write_zeroes_sectors);
	F(ublk_param_discard, max_discard_segments);
	F(ublk_param_discard, reserved0);

	S(ublk_param_devt);
	F(ublk_param_devt, char_major);
	F(ublk_param_devt, char_minor);
	F(ublk_param_devt, disk_major);
	F(ublk_param_devt, disk_minor);

	S(ublk_param_zoned);
	F(ublk_param_zoned, max_open_zones);
	F(ublk_param_zoned, max_active_zones);
	F(ublk_param_zoned, max_zone_append_sectors);
	F(ublk_param_zoned, reserved);

	S(ublk_param_dma_align);
	F(ublk_param_dma_align, alignment);
	F(ublk_param_dma_align, pad);

	S(ublk_param_segment);
	F(ublk_param_segment, seg_boundary_mask);
	F(ublk_param_segment, max_segment_size);
	F(ublk_param_segment, max_segments);
	F(ublk_param_segment, pad);

	S(ublk_param_integrity);
	F(ublk_param_integrity, flags);
	F(ublk_param_integrity, max_integrity_segments);
	F(ublk_param_integrity, interval_exp);
	F(ublk_param_integrity, metadata_size);
	F(ublk_param_integrity, pi_offset);
	F(ublk_param_integrity, csum_type);
	F(ublk_param_integrity, tag_size);
	F(ublk_param_integrity, pad);

	S(ublk_params);
	F(ublk_params, len);
	F(ublk_params, types);
	F(ublk_params, basic);
	F(ublk_params, discard);
	F(ublk_params, devt);
	F(ublk_params, zoned);
	F(ublk_params, dma);
	/* Between them, where the compiler pads. */
	RANGE(ublk_params, _pad, END(ublk_params, dma), START(ublk_params, seg) - END(ublk_params, dma));
	F(ublk_params, seg);
	F(ublk_params, integrity);

	S(blk_zone);
	F(blk_zone, start);
	F(blk_zone, len);
	F(blk_zone, wp);
	NAMED(blk_zone, type_, type); /* a keyword in Rust */
	F(blk_zone, cond);
	F(blk_zone, non_seq);
	F(blk_zone, reset);
	F(blk_zone, resv);
	F(blk_zone, capacity);
	F(blk_zone, reserved);

	S(blk_zone_report);
	F(blk_zone_report, sector);
	F(blk_zone_report, nr_zones);
	F(blk_zone_report, flags);

	S(blk_zone_range);
	F(blk_zone_range, sector);
	F(blk_zone_range, nr_sectors);

	S(io_uring_sqe);
	F(io_uring_sqe, opcode);
	F(io_uring_sqe, flags);
	F(io_uring_sqe, ioprio);
	F(io_uring_sqe, fd);
	F(io_uring_sqe, off); /* also addr2; cmd_op, __pad1 */
	F(io_uring_sqe, addr); /* also splice_off_in; level, optname */
	F(io_uring_sqe, len);
	NAMED(io_uring_sqe, op_flags, rw_flags); /* the union of the operations' flags */
	F(io_uring_sqe, user_data);
	F(io_uring_sqe, buf_index); /* also buf_group */
	F(io_uring_sqe, personality);
	F(io_uring_sqe, splice_fd_in); /* also file_index, optlen and others */
	/* addr3 and __pad2: where cmd begins. */
	RANGE(io_uring_sqe, cmd, START(io_uring_sqe, addr3), 16);
	/* Two entries, and a completion with its tail: not structs of the header. */
	printf("struct io_uring_sqe128 %zu\n", 2 * sizeof(struct io_uring_sqe));
	RANGE(io_uring_sqe128, head, 0, sizeof(struct io_uring_sqe));
	RANGE(io_uring_sqe128, tail, sizeof(struct io_uring_sqe), sizeof(struct io_uring_sqe));

	S(io_uring_cqe);
	F(io_uring_cqe, user_data);
	F(io_uring_cqe, res);
	F(io_uring_cqe, flags);
	printf("struct io_uring_cqe32 %zu\n", 2 * sizeof(struct io_uring_cqe));
	RANGE(io_uring_cqe32, head, 0, sizeof(struct io_uring_cqe));
	RANGE(io_uring_cqe32, big_cqe, START(io_uring_cqe, big_cqe), sizeof(struct io_uring_cqe));

	S(io_sqring_offsets);
	F(io_sqring_offsets, head);
	F(io_sqring_offsets, tail);
	F(io_sqring_offsets, ring_mask);
	F(io_sqring_offsets, ring_entries);
	F(io_sqring_offsets, flags);
	F(io_sqring_offsets, dropped);
	F(io_sqring_offsets, array);
	F(io_sqring_offsets, resv1);
	F(io_sqring_offsets, user_addr);

	S(io_cqring_offsets);
	F(io_cqring_offsets, head);
	F(io_cqring_offsets, tail);
	F(io_cqring_offsets, ring_mask);
	F(io_cqring_offsets, ring_entries);
	F(io_cqring_offsets, overflow);
	F(io_cqring_offsets, cqes);
	F(io_cqring_offsets, flags);
	F(io_cqring_offsets, resv1);
	F(io_cqring_offsets, user_addr);

	S(io_uring_params);
	F(io_uring_params, sq_entries);
	F(io_uring_params, cq_entries);
	F(io_uring_params, flags);
	F(io_uring_params, sq_thread_cpu);
	F(io_uring_params, sq_thread_idle);
	F(io_uring_params, features);
	F(io_uring_params, wq_fd);
	F(io_uring_params, resv);
	F(io_uring_params, sq_off);
	F(io_uring_params, cq_off);

	S(__kernel_timespec);
	F(__kernel_timespec, tv_sec);
	F(__kernel_timespec, tv_nsec);

	S(io_uring_getevents_arg);
	F(io_uring_getevents_arg, sigmask);
	F(io_uring_getevents_arg, sigmask_sz);
	F(io_uring_getevents_arg, min_wait_usec);
	F(io_uring_getevents_arg, ts);

	S(io_uring_reg_wait);
	F(io_uring_reg_wait, ts);
	F(io_uring_reg_wait, min_wait_usec);
	F(io_uring_reg_wait, flags);
	F(io_uring_reg_wait, sigmask);
	F(io_uring_reg_wait, sigmask_sz);
	F(io_uring_reg_wait, pad);
	F(io_uring_reg_wait, pad2);

	S(io_uring_files_update);
	F(io_uring_files_update, offset);
	F(io_uring_files_update, resv);
	F(io_uring_files_update, fds);

	S(io_uring_region_desc);
	F(io_uring_region_desc, user_addr);
	F(io_uring_region_desc, size);
	F(io_uring_region_desc, flags);
	F(io_uring_region_desc, id);
	F(io_uring_region_desc, mmap_offset);
	F(io_uring_region_desc, __resv);

	S(io_uring_mem_region_reg);
	F(io_uring_mem_region_reg, region_uptr);
	F(io_uring_mem_region_reg, flags);
	F(io_uring_mem_region_reg, __resv);

	S(io_uring_rsrc_register);
	F(io_uring_rsrc_register, nr);
	F(io_uring_rsrc_register, flags);
	F(io_uring_rsrc_register, resv2);
	F(io_uring_rsrc_register, data);
	F(io_uring_rsrc_register, tags);

	S(io_uring_rsrc_update);
	F(io_uring_rsrc_update, offset);
	F(io_uring_rsrc_update, resv);
	F(io_uring_rsrc_update, data);

	S(io_uring_rsrc_update2);
	F(io_uring_rsrc_update2, offset);
	F(io_uring_rsrc_update2, resv);
	F(io_uring_rsrc_update2, data);
	F(io_uring_rsrc_update2, tags);
	F(io_uring_rsrc_update2, nr);
	F(io_uring_rsrc_update2, resv2);

	S(io_uring_probe_op);
	F(io_uring_probe_op, op);
	F(io_uring_probe_op, resv);
	F(io_uring_probe_op, flags);
	F(io_uring_probe_op, resv2);

	S(io_uring_probe);
	F(io_uring_probe, last_op);
	F(io_uring_probe, ops_len);
	F(io_uring_probe, resv);
	F(io_uring_probe, resv2);

	S(io_uring_restriction);
	F(io_uring_restriction, opcode);
	F(io_uring_restriction, register_op); /* also sqe_op, sqe_flags */
	F(io_uring_restriction, resv);
	F(io_uring_restriction, resv2);

	S(io_uring_task_restriction);
	F(io_uring_task_restriction, flags);
	F(io_uring_task_restriction, nr_res);
	F(io_uring_task_restriction, resv);

	S(io_uring_clock_register);
	F(io_uring_clock_register, clockid);
	F(io_uring_clock_register, __resv);

	S(io_uring_clone_buffers);
	F(io_uring_clone_buffers, src_fd);
	F(io_uring_clone_buffers, flags);
	F(io_uring_clone_buffers, src_off);
	F(io_uring_clone_buffers, dst_off);
	F(io_uring_clone_buffers, nr);
	F(io_uring_clone_buffers, pad);

	S(io_uring_buf);
	F(io_uring_buf, addr);
	F(io_uring_buf, len);
	F(io_uring_buf, bid);
	F(io_uring_buf, resv);

	S(io_uring_buf_ring);
	F(io_uring_buf_ring, resv1);
	F(io_uring_buf_ring, resv2);
	F(io_uring_buf_ring, resv3);
	F(io_uring_buf_ring, tail);

	S(io_uring_buf_reg);
	F(io_uring_buf_reg, ring_addr);
	F(io_uring_buf_reg, ring_entries);
	F(io_uring_buf_reg, bgid);
	F(io_uring_buf_reg, flags);
	F(io_uring_buf_reg, min_left);
	F(io_uring_buf_reg, resv);

	S(io_uring_buf_status);
	F(io_uring_buf_status, buf_group);
	F(io_uring_buf_status, head);
	F(io_uring_buf_status, resv);

	S(io_uring_sync_cancel_reg);
	F(io_uring_sync_cancel_reg, addr);
	F(io_uring_sync_cancel_reg, fd);
	F(io_uring_sync_cancel_reg, flags);
	F(io_uring_sync_cancel_reg, timeout);
	F(io_uring_sync_cancel_reg, opcode);
	F(io_uring_sync_cancel_reg, pad);
	F(io_uring_sync_cancel_reg, pad2);

	S(io_uring_file_index_range);
	F(io_uring_file_index_range, off);
	F(io_uring_file_index_range, len);
	F(io_uring_file_index_range, resv);

	S(io_uring_query_hdr);
	F(io_uring_query_hdr, next_entry);
	F(io_uring_query_hdr, query_data);
	F(io_uring_query_hdr, query_op);
	F(io_uring_query_hdr, size);
	F(io_uring_query_hdr, result);
	F(io_uring_query_hdr, __resv);

	S(io_uring_query_opcode);
	F(io_uring_query_opcode, nr_request_opcodes);
	F(io_uring_query_opcode, nr_register_opcodes);
	F(io_uring_query_opcode, feature_flags);
	F(io_uring_query_opcode, ring_setup_flags);
	F(io_uring_query_opcode, enter_flags);
	F(io_uring_query_opcode, sqe_flags);
	F(io_uring_query_opcode, nr_query_opcodes);
	F(io_uring_query_opcode, __pad);

	S(io_uring_query_scq);
	F(io_uring_query_scq, hdr_size);
	F(io_uring_query_scq, hdr_alignment);
	return 0;
}
